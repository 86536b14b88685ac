/* A library whose code is laid out alike whatever NAME is. */
#include <stdlib.h>

#define STRING(x) #x
#define XSTRING(x) STRING(x)

const char *name = XSTRING(NAME);

__attribute__((noinline, noclone)) void NAME(size_t n)
{
	free(malloc(n));
	asm volatile("" ::: "memory");
}

void work(size_t n)
{
	NAME(n);
	asm volatile("" ::: "memory");
}
