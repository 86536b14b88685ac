/*
 * Calls hit() a known number of times in a known family of threads and
 * processes. Prints "ready PID", waits for a byte on stdin, runs the scenario
 * named by argv[1], and every process prints "PID hits" before it ends. With
 * "held" as argv[2], a forked child prints "born PID FD" and waits for a byte in
 * its file FD before it does anything.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static const char *self;
static int held;
static int total; /* of this process */
static pthread_barrier_t start;

__attribute__((noinline)) int hit(int n)
{
	__asm__ volatile("");
	return n + 1;
}

static void hits(int n)
{
	for (int i = 0; i < n; i++)
		hit(i);
	__atomic_fetch_add(&total, n, __ATOMIC_RELAXED);
}

static void report(void)
{
	dprintf(1, "%d %d\n", getpid(), total);
}

static void born(void)
{
	int p[2];

	total = 0;
	if (!held)
		return;
	if (pipe(p) != 0)
		abort();
	dprintf(1, "born %d %d\n", getpid(), p[1]);
	(void)!read(p[0], &(char){0}, 1);
	close(p[0]);
	close(p[1]);
}

/* Runs n hits in a forked child, and in a child of that if deeper. */
static void forked(int n, int deeper)
{
	pid_t pid = fork();
	if (pid == 0) {
		born();
		hits(n);
		if (deeper)
			forked(n + 1, deeper - 1);
		report();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/*
 * A child that forks and waits, like a shell, on one CPU: parent and child
 * then run in turns, which makes the scheduler exchange their perf events.
 */
static void shell(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof set, &set) != 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		born();
		for (int i = 0; i < 100; i++) {
			pid_t child = fork();
			if (child == 0)
				_exit(0);
			waitpid(child, NULL, 0);
			hits(10);
		}
		report();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void leaf_by_vfork(const char *n)
{
	pid_t pid = vfork();
	if (pid == 0) {
		execl(self, self, "leaf", n, NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static void leaf_by_spawn(char *n)
{
	char *argv[] = {(char *)self, "leaf", n, NULL};
	pid_t pid;
	if (posix_spawn(&pid, self, NULL, NULL, argv, environ) != 0)
		abort();
	waitpid(pid, NULL, 0);
}

static void *forking_thread(void *arg)
{
	hits(7);
	forked(50, 1);
	hits(7);
	return arg;
}

static void *old_thread(void *arg)
{
	pthread_barrier_wait(&start);
	return forking_thread(arg);
}

static void threads(void *(*run)(void *), int n)
{
	pthread_t t[64];
	for (int i = 0; i < n; i++)
		if (pthread_create(&t[i], NULL, run, NULL) != 0)
			abort();
	if (run == old_thread) {
		/* They exist before the attach, and wait. */
		dprintf(1, "ready %d\n", getpid());
		(void)!read(0, &(char){0}, 1);
		pthread_barrier_wait(&start);
	}
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	self = argv[0];
	held = argc > 2 && !strcmp(argv[2], "held");
	if (!strcmp(what, "leaf")) {
		hits(atoi(argv[2]));
		report();
		return 0;
	}
	if (!strcmp(what, "oldthreads")) {
		pthread_barrier_init(&start, NULL, 5);
		threads(old_thread, 4);
		report();
		return 0;
	}
	dprintf(1, "ready %d\n", getpid());
	(void)!read(0, &(char){0}, 1);
	hits(100);
	if (!strcmp(what, "fork"))
		forked(500, 0);
	else if (!strcmp(what, "nested"))
		forked(200, 3);
	else if (!strcmp(what, "many"))
		for (int i = 0; i < 50; i++)
			forked(10 + i, 0);
	else if (!strcmp(what, "vfork"))
		leaf_by_vfork("321");
	else if (!strcmp(what, "spawn"))
		leaf_by_spawn("123");
	else if (!strcmp(what, "thread"))
		threads(forking_thread, 3);
	else if (!strcmp(what, "shell"))
		shell();
	else if (!strcmp(what, "endless"))
		for (;;) {
			hits(1);
			usleep(1000);
		}
	hits(100);
	report();
	return 0;
}
