/*
 * Measures what a process pays besides its probes' hits. Prints "ready PID",
 * waits for a byte, then prints "thread NS", "fork NS" and "switch NS": the cost of
 * one pthread_create and join, one fork and wait, and one change of threads.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 3000, FORKS = 500, TURNS = 100000 };

static int ping[2], pong[2];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void *nothing(void *arg)
{
	return arg;
}

static void *echo(void *arg)
{
	char c;
	while (read(ping[0], &c, 1) == 1 && write(pong[1], &c, 1) == 1)
		;
	return arg;
}

int main(void)
{
	pthread_t t;
	double start;
	char c = 0;

	dprintf(1, "ready %d\n", getpid());
	(void)!read(0, &c, 1);

	start = now();
	for (int i = 0; i < THREADS; i++) {
		pthread_create(&t, NULL, nothing, NULL);
		pthread_join(t, NULL);
	}
	dprintf(1, "thread %.0f\n", (now() - start) / THREADS);

	start = now();
	for (int i = 0; i < FORKS; i++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	dprintf(1, "fork %.0f\n", (now() - start) / FORKS);

	(void)!pipe(ping);
	(void)!pipe(pong);
	pthread_create(&t, NULL, echo, NULL);
	start = now();
	for (int i = 0; i < TURNS; i++) {
		(void)!write(ping[1], &c, 1);
		(void)!read(pong[0], &c, 1);
	}
	dprintf(1, "switch %.0f\n", (now() - start) / TURNS / 2);
	return 0;
}
