/* Leaks as many blocks of 100 bytes as it is told, and one of 100; five are temporary. */
#include <stdlib.h>

#define NOINLINE __attribute__((noinline, noclone))
#define KEEP asm volatile("" ::: "memory") /* no call is the last thing that is done */

static void *volatile kept;

NOINLINE void leaf(void)
{

	kept = malloc(100);
	KEEP;
}
NOINLINE void grow(int n)
{
	while (n--)
		leaf();
	KEEP;
}

NOINLINE void scratch(void) { void *volatile p = malloc(50); free(p); KEEP; }
NOINLINE void once(void) { kept = malloc(100); KEEP; }
int main(int argc, char **argv)
{

	grow(atoi(argv[1]));
	once();
	for (int i = 0; i < 5; i++)
		scratch();
	return argc - 2;
}
