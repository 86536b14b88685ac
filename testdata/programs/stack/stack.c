/*
 * Allocates on stacks of all kinds, each block of another size, and says by
 * which functions: "stack SIZE FUNCTION...", the innermost first. A number is how
 * often the function before it calls itself.
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define KEEP asm volatile("" ::: "memory") /* no call is the last thing that is done */

static size_t next_size = 1000;

static void tell(const char *functions)
{
	printf("stack %zu %s\n", next_size++, functions);
}

NOINLINE void leaf(void)
{
	free(malloc(next_size));
	KEEP;
}

NOINLINE void variable(int n) /* its frame is found by rbp */
{
	char *p = alloca(n);

	memset(p, n, n);
	leaf();
	asm volatile("" ::"r"(p) : "memory");
}

NOINLINE void aligned(void) /* its frame is realigned */
{
	char buf[128] __attribute__((aligned(64)));

	memset(buf, 1, sizeof(buf));
	variable(77);
	asm volatile("" ::"r"(buf) : "memory");
}

NOINLINE void recurse(int n)
{
	if (n)
		recurse(n - 1);
	else
		leaf();
	KEEP;
}

/* Two ways to the same depth: everything but one return address is the same. */
NOINLINE void left(void)
{
	leaf();
	KEEP;
}

NOINLINE void right(void)
{
	leaf();
	KEEP;
}

/* Its return is that of left. */
void jump(void);
asm(".globl jump; .type jump, %function; jump:\n"
#ifdef __x86_64__
    "jmp left\n"
#else
    "b left\n"
#endif
    ".size jump, . - jump");

static void *thread(void *arg)
{
	leaf();
	KEEP;
	return arg;
}

static void on_signal(int sig)
{
	leaf();
	KEEP;
}

#ifdef __GLIBC__ /* musl has none */
static ucontext_t outside, inside;

static void coroutine(void)
{
	leaf();
	KEEP;
	swapcontext(&inside, &outside);
}

static void coroutines(void)
{
	static char stack[65536];

	getcontext(&inside);
	inside.uc_stack.ss_sp = stack;
	inside.uc_stack.ss_size = sizeof(stack);
	inside.uc_link = &outside;
	makecontext(&inside, coroutine, 0);
	swapcontext(&outside, &inside);
	tell("leaf coroutine *"); /* what calls it has no unwind information */
}
#else
static void coroutines(void)
{
}
#endif

static void kinds(void)
{
	static char signal_stack[65536];
	stack_t ss = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
	pthread_t t;

	pthread_create(&t, NULL, thread, NULL);
	pthread_join(t, NULL);
#ifdef __GLIBC__
	tell("leaf thread start_thread");
#else
	tell("leaf thread *"); /* a name that only the static program has */
#endif
	sigaltstack(&ss, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	tell("leaf on_signal *"); /* the handler's caller is on another stack */
	coroutines();
}

/* Calls work of one library after the other where they have the same place. */
static void libraries(char **paths, int n)
{
	void *first = NULL;

	for (int round = 0; round < 2 * n; round++) {
		void *lib = dlopen(paths[round % n], RTLD_NOW);
		void (*work)(size_t) = lib ? (void (*)(size_t))dlsym(lib, "work") : NULL;
		const char **name = lib ? dlsym(lib, "name") : NULL;
		char line[64];

		if (!work || !name) {
			printf("error=%s\n", dlerror());
			exit(1);
		}
		if (first && first != (void *)work)
			printf("moved=1\n");
		first = work;
		work(next_size);
		snprintf(line, sizeof(line), "%s work libraries main", *name);
		tell(line);
		dlclose(lib);
	}
}

static void await(const char *what)
{
	puts(what);
	fflush(stdout);
	getchar();
}

/*
 * Removes the program's file, and puts another library in the place of the one that
 * runs; whoever comes later finds the wrong ones.
 */
static void replaced(char *self, char **paths)
{
	await("begun");
	void *lib = dlopen(paths[0], RTLD_NOW);
	void (*work)(size_t) = lib ? (void (*)(size_t))dlsym(lib, "work") : NULL;

	await("loaded");
	if (!work || unlink(self) || rename(paths[1], paths[0])) {
		printf("error=it could not be replaced\n");
		exit(1);
	}
	await("replaced");
	work(next_size);
	tell("alpha work replaced main");
	aligned();
	tell("leaf variable aligned replaced main");
	recurse(30);
	tell("leaf recurse 30 replaced main");
}

static void children(char *self)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		left();
		tell("leaf left children main");
		fflush(stdout);
		execl(self, self, "plain", "2000", NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	if (argc > 2)
		next_size = atoi(argv[2]);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	if (!strcmp(argv[1], "replaced")) {
		replaced(argv[0], argv + 3);
		fflush(stdout);
		return 0;
	}
	leaf();
	tell("leaf main");
	jump();
	tell("leaf left main");
	aligned();
	tell("leaf variable aligned main");
	for (int i = 0; i < 3; i++) {
		left();
		tell("leaf left main");
		right();
		tell("leaf right main");
		recurse(20);
		tell("leaf recurse 20 main");
		recurse(21);
		tell("leaf recurse 21 main");
		recurse(200);
		tell("leaf recurse 200 main");
	}
	if (!strcmp(argv[1], "kinds"))
		kinds();
	if (!strcmp(argv[1], "children"))
		children(argv[0]);
	if (!strcmp(argv[1], "libraries"))
		libraries(argv + 3, argc - 3);
	fflush(stdout);
	return 0;
}
