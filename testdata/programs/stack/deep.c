/*
 * Allocates 4000 bytes from below a large stack, in the first thread and in another, 20
 * times each: 40 to 60 frames of 3 KiB, then one of 24 KiB that nothing was ever written
 * to, so that some of its pages are not there.
 */
#include <pthread.h>
#include <stdlib.h>

#define TIMES 20

__attribute__((noinline)) static void keep(size_t size)
{
	void *p = malloc(size);

	__asm__ volatile("" : : "r"(p) : "memory");
	free(p);
}

__attribute__((noinline)) static void hollow(void)
{
	char unused[24 << 10];

	__asm__ volatile("" : : "r"(unused) : "memory");
	keep(4000);
	__asm__ volatile("" : : "r"(unused) : "memory");
}

__attribute__((noinline)) static void level(int n)
{
	char large[3000];

	__asm__ volatile("" : : "r"(large) : "memory");
	if (n > 1)
		level(n - 1);
	else
		hollow();
	__asm__ volatile("" : : "r"(large) : "memory");
}

static void *thread(void *arg)
{
	for (int i = 0; i < TIMES; i++)
		level(40 + i);
	return arg;
}

int main(void)
{
	pthread_t t;

	for (int i = 0; i < TIMES; i++)
		level(60 - i);
	if (pthread_create(&t, NULL, thread, NULL) || pthread_join(t, NULL))
		return 1;
	return 0;
}
