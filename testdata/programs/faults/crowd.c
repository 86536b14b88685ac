// A program of which there is much at once.
//
//	crowd threads N   N threads live at the same time; each leaks 555 bytes
//	crowd forks N     N children, up to 50 at once; each leaks 555 bytes
//	crowd pairs N     N times malloc(16) and free, as fast as can be
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t all;

static void leak(void)
{
	void *volatile p = malloc(555);

	(void)p;
}

static void *thread(void *arg)
{
	pthread_barrier_wait(&all);
	leak();
	pthread_barrier_wait(&all);
	return arg;
}

static int threads(int n)
{
	pthread_attr_t small;
	pthread_t t;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	pthread_barrier_init(&all, NULL, n + 1);
	for (int i = 0; i < n; i++)
		if (pthread_create(&t, &small, thread, NULL))
			return 3;
	pthread_barrier_wait(&all);
	pthread_barrier_wait(&all);
	return 0;
}

static int forks(int n)
{
	for (int i = 1; i <= n; i++) {
		pid_t child = fork();

		if (child < 0)
			return 3;
		if (child == 0) {
			leak();
			_exit(0);
		}
		while (i % 50 == 0 && wait(NULL) > 0)
			;
	}
	while (wait(NULL) > 0)
		;
	return 0;
}

static int pairs(int n)
{
	for (int i = 0; i < n; i++) {
		void *volatile p = malloc(16);
		free(p);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int n = argc == 3 ? atoi(argv[2]) : 0;

	if (n <= 0)
		return 2;
	if (!strcmp(argv[1], "threads"))
		return threads(n);
	if (!strcmp(argv[1], "forks"))
		return forks(n);
	return pairs(n);
}
