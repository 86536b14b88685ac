// What becomes of blocks when processes are made, replaced and ended.
#include "truth.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static int ended(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

// The child frees its copies; the parent's blocks stay as they were.
static void forks(void)
{
	void *both = malloc(100), *kept = malloc(200), *parents = malloc(300);
	pid_t pid = fork();

	if (pid == 0) {
		void *own;

		free(both);
		free(kept);
		own = malloc(400); // the parent will have one at the same address
		say("child=%#lx\n", at(own));
		_exit(0);
	}
	if (ended(pid))
		say("error=child\n");
	free(both);
	say("parent=%#lx\n", at(malloc(400)));
	free(parents);
	// The parent's 200 and 400, the child's 400.
	say("blocks=3\nbytes=1000\n");
}

static void *shared;

static int in_clone(void *arg)
{
	free(arg);
	shared = malloc(150);
	return 0;
}

// Children in the parent's own memory.
static void vforks(void)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	void *p = malloc(100), *volatile q = NULL;
	pid_t pid = vfork();

	if (pid == 0) {
		q = malloc(120);
		free(p);
		_exit(0);
	}
	ended(pid);
	free(q);
	p = malloc(110);
	pid = clone(in_clone, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, p);
	ended(pid);
	say("blocks=1\nbytes=150\n"); // of the shared memory: the child's, still there
	(void)shared;
}

// spawn runs a program through posix_spawn, which borrows the parent's memory.
static void spawn(char **argv)
{
	pid_t pid;
	void *p = malloc(500);

	if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ))
		say("error=spawn\n");
	else
		ended(pid);
	free(p);
	if (!malloc(9))
		say("error=malloc\n");
}

// become leaves blocks behind in the memory that exec drops.
static void become(char **argv)
{
	for (int i = 0; i < 5; i++)
		if (!malloc(1000))
			say("error=malloc\n");
	say("dropped=5000\n");
	execve(argv[0], argv, environ);
	say("error=exec\n");
}

static void leak(int n, size_t size)
{
	for (int i = 0; i < n; i++)
		if (!malloc(size))
			say("error=malloc\n");
	say("blocks=%d\nbytes=%zu\n", n, n * size);
}

// reuse makes children until two have had the same pid.
static void reuse(void)
{
	pid_t first = 0, pid = 0;
	int blocks = 0;
	size_t bytes = 0;

	for (int i = 0; i < 200; i++) {
		if (first) { // another process may be faster: then once more
			char text[16];
			int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);

			snprintf(text, sizeof(text), "%d", first - 1);
			if (fd < 0 || write(fd, text, strlen(text)) < 0) {
				say("unable=ns_last_pid\n");
				return;
			}
			close(fd);
		}
		pid = fork();
		if (pid == 0) {
			void *p = malloc(1000 + i);

			free(malloc(50));
			_exit(p == NULL);
		}
		ended(pid);
		blocks++;
		bytes += 1000 + i;
		if (pid == first)
			break;
		if (!first)
			first = pid;
	}
	say("reused=%d\nblocks=%d\nbytes=%zu\n", pid == first, blocks, bytes);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

#define WHEN(name, call) else if (!strcmp(what, name)) call
	if (0)
		;
	WHEN("forks", forks());
	WHEN("vforks", vforks());
	WHEN("spawn", spawn(argv + 2));
	WHEN("become", become(argv + 2));
	WHEN("leak", leak(atoi(argv[2]), atoi(argv[3])));
	WHEN("reuse", reuse());
	else if (!strcmp(what, "ready")) // then what follows
	{
		wait_go("ready");
		return main(argc - 1, argv + 1);
	}
	else return 2;
	say("end=1\n");
	return 0;
}
