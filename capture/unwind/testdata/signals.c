// Signal handlers, on the thread's own stack and on another one, in a thread.
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define FRAME __attribute__((noinline, noclone))

static volatile int sink;

FRAME void *leaf(int n)
{
	void *p = malloc(n);
	sink++;
	return p;
}

static void second(int sig)
{
	free(leaf(sig));
	sink++;
}

static void first(int sig)
{
	raise(SIGUSR2);
	sink += sig;
}

FRAME void interrupted(void)
{
	raise(SIGUSR1);
	sink++;
}

static void *thread(void *arg)
{
	interrupted();
	sink++;
	return arg;
}

int main(int argc, char **argv)
{
	static char room[1 << 16];
	stack_t other = { .ss_sp = room, .ss_size = sizeof room };
	struct sigaction a = { .sa_handler = first }, b = { .sa_handler = second };
	pthread_t t;
	if (argc > 1) {
		sigaltstack(&other, NULL);
		b.sa_flags = SA_ONSTACK;
		sigaction(SIGUSR1, &a, NULL);
		sigaction(SIGUSR2, &b, NULL);
		interrupted();
		return 0;
	}
	sigaction(SIGUSR1, &a, NULL);
	sigaction(SIGUSR2, &b, NULL);
	pthread_create(&t, NULL, thread, NULL);
	return pthread_join(t, NULL);
}
