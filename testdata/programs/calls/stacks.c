/* Places with a stack that is known, in functions without frame pointers:
 * main, outer, by_a or by_b, and one of entered, marked and asks.
 *
 * stacks COUNT [pause]: goes through all of it so often, then waits to be ended. */
#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sdt.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEP __attribute__((noipa))

KEEP long entered(long n)
{
	asm volatile("" ::: "memory");
	return n + 1;
}

KEEP long marked(long n)
{
	char room[64];

	memset(room, (int)n, sizeof(room)); /* it has a frame */
	asm volatile("" : : "r"(room) : "memory");
	DTRACE_PROBE1(demo, inside, n);
	asm volatile("" : : "r"(room) : "memory");
	return n + room[3];
}

KEEP long asks(long n)
{
	long pid;

#if defined(__x86_64__)
	asm volatile("syscall" : "=a"(pid) : "a"(SYS_getpgid), "D"(0) : "rcx", "r11", "memory");
#else
	register long x8 asm("x8") = SYS_getpgid;
	register long x0 asm("x0") = 0;

	asm volatile("svc 0" : "+r"(x0) : "r"(x8) : "memory");
	pid = x0;
#endif
	return n + pid;
}

KEEP long by_a(long n)
{
	long r = entered(n);

	r += marked(n);
	return r + asks(n);
}

KEEP long by_b(long n) /* its frame is found by the frame register */
{
	char *room = alloca((size_t)n * 16 + 16);
	long r;

	memset(room, 1, 16);
	asm volatile("" : : "r"(room) : "memory");
	r = entered(n + 1);
	r += marked(n + 1);
	r += asks(n + 1);
	return r + room[0];
}

KEEP long outer(long n)
{
	return by_a(n) + by_b(n);
}

int main(int argc, char **argv)
{
	long sum = 0;

	for (long i = 0; i < atol(argv[1]); i++)
		sum += outer(i % 7 * 2);
	printf("done\n");
	fflush(stdout);
	if (argc > 2)
		pause();
	return sum == 42;
}
