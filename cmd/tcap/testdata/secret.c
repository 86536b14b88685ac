// Keeps a secret on its stack while it allocates, through functions that leave
// their frames there. The secret is told on standard output, rotated by one, so that
// it is in no file and no argument.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *volatile kept;

__attribute__((noinline)) static void *make(size_t n)
{
	void *p = malloc(n);

	__asm__ volatile("" ::: "memory");
	return p;
}

__attribute__((noinline)) static void deeper(int n, size_t size)
{
	if (n)
		deeper(n - 1, size);
	else
		kept = make(size);
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static void with_secret(const char *rotated, size_t size)
{
	char secret[64];
	size_t i;

	for (i = 0; rotated[i]; i++)
		secret[i] = rotated[i] - 1;
	secret[i] = 0;
	__asm__ volatile("" :: "r"(secret) : "memory");
	deeper(3, size);
	__asm__ volatile("" :: "r"(secret) : "memory");
}

int main(void)
{
	for (int i = 0; i < 20; i++)
		with_secret("ijejoh.jo.qmbjo.tjhiu", 1000 + i % 4);
	free(kept);
	return 0;
}
