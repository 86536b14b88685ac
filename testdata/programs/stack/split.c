/*
 * A stack of pieces (-fsplit-stack): allocates 4000 bytes from the end of recursions of 1
 * to 60 functions of 2 KiB each, of which six have room in a piece, in the first thread and in
 * another; and 5000 bytes of one of 400, which are too many to be copied.
 */
#include <pthread.h>
#include <stdlib.h>

#define DEEPEST 60

__attribute__((noinline)) static void keep(size_t size)
{
	void *p = malloc(size);

	__asm__ volatile("" : : "r"(p) : "memory");
	free(p);
}

__attribute__((noinline)) static void level(int n, size_t size)
{
	char large[2000];

	__asm__ volatile("" : : "r"(large) : "memory");
	if (n > 1)
		level(n - 1, size);
	else
		keep(size);
	__asm__ volatile("" : : "r"(large) : "memory");
}

static void *thread(void *arg)
{
	for (int i = DEEPEST; i >= 1; i--)
		level(i, 4000);
	level(400, 5000);
	return arg;
}

int main(void)
{
	pthread_t t;

	for (int times = 0; times < 2; times++)
		for (int i = 1; i <= DEEPEST; i++)
			level(i, 4000);
	if (pthread_create(&t, NULL, thread, NULL) || pthread_join(t, NULL))
		return 1;
	return 0;
}
