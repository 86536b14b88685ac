// build: -O2 -fomit-frame-pointer -fno-optimize-sibling-calls
// As pairs.c, 100 frames deep, each of some 60 bytes: deep.c COUNT [wait]
// With wait, it says where malloc is and goes on when a line arrives, so that a
// tracer can attach. It prints the nanoseconds of a pair.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double pairs(long n)
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < n; i++) {
		void *volatile p = malloc(32 + (i & 31));

		free(p);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	return ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / n;
}

__attribute__((noinline, noclone)) static double deep(int frames, long n)
{
	volatile char local[40];
	double ns;

	local[0] = frames;
	ns = frames ? deep(frames - 1, n) : pairs(n);
	return ns + (local[0] & 0);
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000000;
	char line[64];

	if (argc > 2 && !strcmp(argv[2], "wait")) {
		int len = snprintf(line, sizeof(line), "malloc %p\n", (void *)malloc);

		if (write(1, line, len) != len || read(0, line, sizeof(line)) < 0)
			return 1;
	}
	printf("ns_per_pair %.1f\n", deep(100, n));
	return 0;
}
