// A child that starts children at once, and waits for each, like a shell. On one
// CPU parent and child run in turns, which makes the scheduler of older kernels
// exchange their perf events.
#include "truth.h"
#include <sched.h>
#include <sys/wait.h>

static void started(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();
		void *p;

		if (pid == 0) {
			p = malloc(100000 + i);
			_exit(p == NULL);
		}
		if (waitpid(pid, NULL, 0) != pid)
			say("error=waitpid\n");
		p = malloc(1000 + i);
		free(p);
	}
}

int main(int argc, char **argv)
{
	int status, n = argc > 1 ? atoi(argv[1]) : 1;
	cpu_set_t set;
	pid_t pid;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		say("error=sched_setaffinity\n");
	pid = fork();
	if (pid == 0) {
		started(n);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		say("error=child\n");
	free(malloc(7777)); // nothing is in doubt here: this is the target itself
	say("end=1\n");
	return 0;
}
