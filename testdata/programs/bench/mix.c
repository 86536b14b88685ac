// build: -O2 -fno-omit-frame-pointer
// A heap with a life: mix.c COUNT [wait]
// COUNT blocks of many sizes from eight places, about 100,000 of them alive at
// a time, freed in no order. One in a thousand is never freed.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 100000

static void *slots[SLOTS];
static uint64_t seed = 88172645463325252ull;

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

#define PLACE(n)                                                          \
	__attribute__((noinline)) static void *place##n(size_t size)      \
	{                                                                 \
		void *p = malloc(size + n);                               \
		__asm__ volatile("" : : "r"(p) : "memory");               \
		return p;                                                 \
	}
PLACE(0) PLACE(1) PLACE(2) PLACE(3) PLACE(4) PLACE(5) PLACE(6) PLACE(7)

static void *(*const places[])(size_t) = {place0, place1, place2, place3, place4, place5, place6, place7};

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000000;
	char line[64];

	if (argc > 2 && !strcmp(argv[2], "wait")) {
		int len = snprintf(line, sizeof(line), "malloc %p\n", (void *)malloc);

		if (write(1, line, len) != len || read(0, line, sizeof(line)) < 0)
			return 1;
	}
	for (long i = 0; i < n; i++) {
		uint64_t r = next();
		void **slot = &slots[r % SLOTS];

		if (r >> 32 & 1023)
			free(*slot);
		*slot = places[r >> 44 & 7](16 + (r >> 48 & 511));
	}
	return 0;
}
