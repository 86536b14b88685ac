// build: -O2
// Times calls of a function with a number and a text: calls.c COUNT [wait]
// The function begins with an instruction that the kernel emulates, as most do.
// With wait, it says where that is and goes on when a line arrives, so that a
// tracer can attach. It prints the nanoseconds of CPU time of a call, in which what
// runs beside it has no part.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

__attribute__((noipa)) long handle(long n, const char *text)
{
	asm volatile("" : : : "rbx", "memory"); /* so it is saved: push %rbx */
	return n;
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000000, sum = 0;
	struct timespec a, b;
	char line[64], text[] = "select c from sbtest where id = 4711 and name = 'tcap'";

	if (argc > 2 && !strcmp(argv[2], "wait")) {
		int len = snprintf(line, sizeof(line), "handle %p\n", (void *)handle);

		if (write(1, line, len) != len || read(0, line, sizeof(line)) < 0)
			return 1;
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	for (long i = 0; i < n; i++)
		sum += handle(i & 1023, text);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	printf("ns_per_call %.1f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / n);
	return sum == 1;
}
