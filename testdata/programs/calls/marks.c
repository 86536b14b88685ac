/* Marks for tools, with arguments wherever a compiler puts them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define SDT_USE_VARIADIC
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

#define SEMAPHORE(p, n) __extension__ unsigned short p##_##n##_semaphore __attribute__((unused)) __attribute__((section(".probes")))
SEMAPHORE(demo, work);
SEMAPHORE(demo, texts);
SEMAPHORE(demo, constant);

struct thing {
	int8_t small;
	uint16_t mid;
	int64_t big;
};

__attribute__((noipa)) static void work(struct thing *t, uint32_t u, int8_t *array, long i)
{
	int local = -5;

	asm volatile("" : "+m"(local));
	STAP_PROBE5(demo, work, t->small, t->mid, t->big, array[i], local);
	STAP_PROBE2(demo, texts, u, "text");
}

int main(int argc, char **argv)
{
	int8_t array[] = {1, -2, 3};
	int watched = 0;

	for (int i = 0; i < atoi(argv[1]); i++) {
		struct thing t = {-i, 60000 + i, 1LL << 40};

		if (demo_work_semaphore)
			watched++;
		work(&t, 4000000000u + i, array, i % 3);
		STAP_PROBE1(demo, constant, 42);
	}
	printf("watched=%d\n", watched);
	return 0;
}
