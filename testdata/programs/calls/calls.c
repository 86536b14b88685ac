/* Calls whose truth is known: each mode prints what a recording must show. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEEP __attribute__((noipa))

struct inner {
	long pad;
	char *name;
};

struct conn {
	long pad[3];
	int fd;
	short minus;
	unsigned char byte;
	struct inner *inner;
	unsigned char addr[4];
};

KEEP long handle(struct conn *c, const char *text, int len, void (*fn)(void), int eight[8])
{
	asm volatile("" ::: "memory");
	return c->fd * -2L;
}

KEEP long many(long a, long b, long c, long d, long e, long f, long g, long h)
{
	asm volatile("" ::: "memory");
	return g + h;
}

KEEP long fib(long n)
{
	long a, b;

	if (n < 2)
		return n;
	a = fib(n - 1);
	asm volatile("" : "+r"(a));
	b = fib(n - 2);
	asm volatile("" : "+r"(b));
	return a + b;
}

KEEP long down(long n)
{
	long r = n ? down(n - 1) : 0;

	asm volatile("" : "+r"(r));
	return r + 1;
}

static jmp_buf back;

KEEP void leaves(int n)
{
	asm volatile("" ::: "memory");
	longjmp(back, n);
}

KEEP int outer(int n)
{
	leaves(n);
	asm volatile("" ::: "memory");
	return n;
}

KEEP int last(int n)
{
	asm volatile("" ::: "memory");
	return n + 100;
}

KEEP int first(int n) /* ends in a jump to last */
{
	asm volatile("" ::: "memory");
	return last(n + 1);
}

KEEP void fills(char **out, int n)
{
	*out = strdup("made");
	asm volatile("" ::: "memory");
}

KEEP long copies(char *to, const char *from) /* like read(2) */
{
	size_t n = strlen(from);

	while (*from) /* the registers of the arguments go on */
		*to++ = *from++;
	*to = '!';
	asm volatile("" ::"r"(to), "r"(from) : "memory");
	return n;
}

KEEP int waits(int n)
{
	printf("waiting\n");
	fflush(stdout);
	for (;;)
		pause();
	return n;
}

KEEP int exits(int n)
{
	if (n)
		exits(n - 1);
	_exit(0);
	return n;
}

KEEP int reads(int n) /* it returns when a line arrives */
{
	char line[16];

	printf("reading\n");
	fflush(stdout);
	if (read(0, line, sizeof(line)) < 0)
		return -1;
	return n + 1;
}

struct counts {
	long ns;
	unsigned int wraps;
	short falls;
};

struct worker {
	long pad;
	struct counts *counts;
};

/* Adds to counters, those of the calls inside first. */
KEEP int adds(struct worker *w, int n, struct counts **gone)
{
	if (n > 1)
		adds(w, n - 1, gone);
	w->counts->ns += n;
	w->counts->wraps += n;
	w->counts->falls -= n;
	if (n == 4)
		munmap(*gone, 4096);
	asm volatile("" ::: "memory");
	return n;
}

static void counting(void)
{
	struct counts c = {1000, -2u, 1}, other = {0};
	struct counts *gone = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct worker w = {.counts = &c};

	gone->ns = 5;
	for (int n = 1; n <= 4; n++)
		adds(&w, n, &gone);
	w.counts = &other;
	adds(&w, 1, &gone);
}

static void callback(void) {}

static void args(int n)
{
	for (int i = 0; i < n; i++) {
		struct inner in = {.name = strdup("inner name")};
		struct conn c = {.fd = i, .minus = -i, .byte = 200, .inner = &in, .addr = {10, 0, 0, i}};
		char text[32];
		int len = snprintf(text, sizeof(text), "select %d", i);

		handle(&c, text, len, callback, NULL);
	}
	many(1, 2, 3, 4, 5, 6, 7, -8);
}

static void *thread(void *arg)
{
	struct conn c = {.fd = (int)(long)arg};

	for (int i = 0; i < 500; i++)
		handle(&c, "t", i, callback, NULL);
	return NULL;
}

static void threads(void)
{
	pthread_t t[4];

	for (long i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, thread, (void *)i);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

static void texts(void)
{
	static char big[200001];
	struct conn c = {.fd = 1};

	memset(big, 'x', sizeof(big) - 1);
	big[3] = 0;
	handle(&c, big, 5000, callback, NULL);
	big[3] = 'x';
	for (int n = 4095; n <= 4097; n++) {
		big[n] = 0;
		handle(&c, big, n, callback, NULL);
		big[n] = 'x';
	}
	big[20000] = 0;
	handle(&c, big, 20000, callback, NULL);
	handle(&c, (char *)8, 10, callback, NULL); /* nothing is there */
	handle(&c, "", 0, callback, NULL);
	handle(&c, "neg", -1, callback, NULL);

	/* 20 MiB and no end, then 3 MiB with one, then one that runs into nothing */
	size_t most = 20 << 20;
	char *huge = mmap(NULL, most + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (huge == MAP_FAILED)
		exit(1);
	memset(huge, 'x', most);
	handle(&c, huge, 0, callback, NULL);
	huge[3 << 20] = 0;
	handle(&c, huge, 0, callback, NULL);
	if (mprotect(huge + most, 8192, PROT_NONE))
		exit(1);
	handle(&c, huge + most - 8192, 0, callback, NULL);
}

int main(int argc, char **argv)
{
	const char *mode = argv[1];
	int n;

	if (argc > 2 && !strcmp(mode, "later")) { /* the rest, when a line has arrived */
		char line[16];

		printf("ready\n");
		fflush(stdout);
		if (read(0, line, sizeof(line)) < 0)
			return 1;
		mode = (++argv)[1];
		argc--;
	}
	n = argc > 2 ? atoi(argv[2]) : 1;
	if (!strcmp(mode, "args"))
		args(n);
	else if (!strcmp(mode, "threads"))
		threads();
	else if (!strcmp(mode, "texts"))
		texts();
	else if (!strcmp(mode, "fib"))
		printf("%ld\n", fib(n));
	else if (!strcmp(mode, "down"))
		printf("%ld\n", down(n));
	else if (!strcmp(mode, "longjmp")) {
		for (volatile int i = 1; i <= n; i++)
			if (!setjmp(back))
				outer(i);
		last(1); /* shallower: what was left shows at the latest here */
	} else if (!strcmp(mode, "jump"))
		for (int i = 0; i < n; i++)
			first(i);
	else if (!strcmp(mode, "fills")) {
		char *s, into[64];

		fills(&s, 7);
		copies(into, "seven\n");
	} else if (!strcmp(mode, "counts")) {
		counting();
	} else if (!strcmp(mode, "fork")) {
		for (int i = 0; i < n; i++)
			if (!fork()) {
				args(2);
				_exit(0);
			} else
				wait(NULL);
	} else if (!strcmp(mode, "exits")) {
		exits(n);
	} else if (!strcmp(mode, "reads")) {
		for (int i = 0; i < n; i++)
			reads(i);
	} else if (!strcmp(mode, "loads")) { /* a library */
		long (*plugin)(long);
		void *lib = dlopen(argv[2], RTLD_NOW);

		if (!lib || !(plugin = dlsym(lib, "plugin")))
			return 3;
		for (long i = 0; i < atol(argv[3]); i++) {
			reads(i);
			plugin(i);
		}
	} else if (!strcmp(mode, "waits")) {
		last(1);
		waits(n);
	} else
		return 2;
	return 0;
}
