/* Leaks 1000 bytes in 10 blocks of 100; the lines are those of the test. */
#include <stdlib.h>


static inline __attribute__((always_inline)) void *inner(int n)
{
	return malloc(n);
}
__attribute__((noinline)) void *leak_here(int n)
{
	void *p = inner(n);
	if (p == NULL)
		abort();
	__asm__ volatile("" : : "r"(p));
	return p;
}
int main(void)
{
	for (int i = 0; i < 10; i++)
		leak_here(100);
	return 0;
}
