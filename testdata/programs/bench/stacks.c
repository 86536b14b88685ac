// build: -O2 -g -fomit-frame-pointer -fno-optimize-sibling-calls -fno-ipa-icf -fno-builtin
// Allocates once from each of COUNT stacks, no two of which are the same: stacks.c COUNT
//
// Stack n has 30 + n % 32 frames of the functions f0 to f7 between main and make,
// which allocates 16 + n bytes; which function is where, digit() tells. Their frames have all forms: small,
// large, of a size known at run time, realigned, with a frame pointer, with all
// registers saved. At its end it prints CLOCK_MONOTONIC.
#include <alloca.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef void function(uint32_t n, uint32_t level);

static function f0, f1, f2, f3, f4, f5, f6, f7;
static function *const functions[] = {f0, f1, f2, f3, f4, f5, f6, f7};

// digit is the function at a level, of which 0 is what main calls. The first six
// are the octal digits of n, and tell it from all others.
static uint32_t digit(uint32_t n, uint32_t level)
{
	return level < 6 ? n >> 3 * level & 7 : n * 2654435761u >> level * 5 % 29 & 7;
}

__attribute__((noinline)) static void make(uint32_t n)
{
	void *volatile p = malloc(16 + n);

	free(p);
}

static inline __attribute__((always_inline)) void next(uint32_t n, uint32_t level)
{
	if (level == 30 + n % 32)
		make(n);
	else
		functions[digit(n, level)](n, level + 1);
	__asm__ volatile("" ::: "memory"); // so that no call is the last thing that is done
}

#define F(name, ...) __attribute__((noinline, noclone, ##__VA_ARGS__)) static void name(uint32_t n, uint32_t level)

F(f0)
{
	next(n, level);
}

F(f1)
{
	volatile char some[48];

	some[0] = level;
	next(n, level);
}

F(f2)
{
	volatile char *some = alloca(16 + (n + level) % 64);

	some[0] = level;
	next(n, level);
}

F(f3)
{
	__asm__ volatile("" ::: "rbx", "rbp", "r12", "r13", "r14", "r15", "memory");
	next(n, level);
}

F(f4)
{
	volatile char some[64] __attribute__((aligned(64)));

	some[0] = level;
	next(n, level);
}

F(f5)
{
	volatile char some[200];

	some[level] = level;
	next(n, level);
}

F(f6, optimize("no-omit-frame-pointer"))
{
	volatile char some[8];

	some[0] = level;
	next(n, level);
}

F(f7)
{
	if (n & 1)
		next(n, level);
	else
		next(n, level);
	__asm__ volatile("" :: "r"(n + level) : "memory");
}

int main(int argc, char **argv)
{
	uint32_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
	struct timespec now;

	for (uint32_t n = 0; n < count; n++)
		functions[digit(n, 0)](n, 1);
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("ended_ns %lld\n", now.tv_sec * 1000000000ll + now.tv_nsec);
	return 0;
}
