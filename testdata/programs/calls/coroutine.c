/* Two coroutines that take turns, each on a stack of its own; a function that is
 * in the middle of a call whenever they do. */
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

static ucontext_t scheduler, routine[2];

__attribute__((noipa)) static int step(int who, int n)
{
	swapcontext(&routine[who], &scheduler); /* the other's turn */
	return who + n;
}

static void body(int who)
{
	int sum = 0;

	for (int n = 0; n < 3; n++)
		sum += step(who, n);
	printf("%d: %d\n", who, sum);
}

/* It is there for others to call, and nobody does. */
__attribute__((used)) inline int inlined(int n) { return n * 3; }
extern int inlined(int);

int main(int argc, char **argv)
{
	for (int i = 0; i < 2; i++) {
		getcontext(&routine[i]);
		routine[i].uc_stack.ss_sp = malloc(1 << 16);
		routine[i].uc_stack.ss_size = 1 << 16;
		routine[i].uc_link = &scheduler;
		makecontext(&routine[i], (void (*)(void))body, 1, i);
	}
	for (int turn = 0; turn < 4; turn++)
		for (int i = 0; i < 2; i++)
			swapcontext(&scheduler, &routine[i]);
	return inlined(argc) == 0;
}
