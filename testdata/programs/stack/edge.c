// A coroutine's stack behind which nothing can be read: the last page of its memory
// is followed by one without access. 50 blocks of 123 bytes.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#define SIZE 65536

static ucontext_t outside, inside;

__attribute__((noinline)) static void leaf(void)
{
	char pad[3000];
	void *p;

	__asm__ volatile("" : : "r"(pad) : "memory");
	p = malloc(123);
	__asm__ volatile("" : : "r"(p) : "memory");
}

static void run(void)
{
	for (int i = 0; i < 50; i++)
		leaf();
}

int main(void)
{
	char *stack = mmap(NULL, SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED || mprotect(stack + SIZE, 4096, PROT_NONE) || getcontext(&inside))
		return 1;
	inside.uc_stack.ss_sp = stack;
	inside.uc_stack.ss_size = SIZE;
	inside.uc_link = &outside;
	makecontext(&inside, run, 0);
	return swapcontext(&outside, &inside);
}
