/*
 * Signal handlers on a stack of their own (sigaltstack) that allocate: in the first
 * thread and in another, 100 times each 4000 bytes; from the handler of a second signal
 * that interrupts the first, 5000 bytes; and from far down in the program, 6000 bytes.
 * The stack for signals is on the heap, and for the thread below its own.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TIMES 100

static volatile int deep;

__attribute__((noinline)) static void keep(size_t size)
{
	void *p = malloc(size);

	__asm__ volatile("" : : "r"(p) : "memory");
	free(p);
}

static void on_second(int sig)
{
	keep(5000);
}

static void on_first(int sig)
{
	keep(deep ? 6000 : 4000);
	if (!deep)
		raise(SIGUSR2);
}

__attribute__((noinline)) static void interrupted(int n)
{
	char pad[200 + 16 * (n & 1)];

	__asm__ volatile("" : : "r"(pad) : "memory");
	if (n > 0)
		interrupted(n - 1);
	else
		raise(SIGUSR1);
	__asm__ volatile("" : : "r"(pad) : "memory");
}

static void give_stack(void *memory)
{
	stack_t stack = {.ss_sp = memory, .ss_size = 16384};

	if (!memory || sigaltstack(&stack, NULL))
		abort();
}

__attribute__((noinline)) static void all(void)
{
	deep = 0;
	for (int i = 0; i < TIMES; i++)
		interrupted(i % 4);
	deep = 1;
	for (int i = 0; i < TIMES; i++)
		interrupted(60);
}

static void *thread(void *memory)
{
	give_stack(memory);
	all();
	return NULL;
}

int main(void)
{
	struct sigaction act = {.sa_handler = on_first, .sa_flags = SA_ONSTACK};
	pthread_t other;

	sigaction(SIGUSR1, &act, NULL);
	act.sa_handler = on_second;
	sigaction(SIGUSR2, &act, NULL);
	give_stack(malloc(16384));
	all();
	if (pthread_create(&other, NULL, thread, mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))
		return 1;
	pthread_join(other, NULL);
	return 0;
}
