// A coroutine library with NtyCo's interface, in a static executable that makes
// some coroutines, which take turns on stacks of their own.
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

typedef void (*proc_coroutine)(void *);

typedef struct {
	ucontext_t context;
	proc_coroutine func;
	void *arg;
	int done;
	char stack[16 << 10];
} nty_coroutine;

static ucontext_t scheduler;
static nty_coroutine *current, *all[64];
static int count;

static void begin(void)
{
	current->func(current->arg);
	current->done = 1;
	swapcontext(&current->context, &scheduler);
}

static void yield(void) { swapcontext(&current->context, &scheduler); }

__attribute__((noinline)) int nty_coroutine_create(nty_coroutine **new_co, proc_coroutine func, void *arg)
{
	nty_coroutine *co = calloc(1, sizeof(*co));

	if (!co || count == 64)
		return -1;
	co->func = func;
	co->arg = arg;
	getcontext(&co->context);
	co->context.uc_stack.ss_sp = co->stack;
	co->context.uc_stack.ss_size = sizeof(co->stack);
	makecontext(&co->context, begin, 0);
	all[count++] = co;
	*new_co = co;
	return 0;
}

static long total;

void reader(void *arg)
{
	for (int i = 0; i < 3; i++) {
		total += (long)arg;
		yield();
	}
}

void writer(void *arg)
{
	nty_coroutine *co;

	nty_coroutine_create(&co, reader, arg); // from a stack of its own
	yield();
	total += (long)arg;
}

int main(void)
{
	nty_coroutine *co;

	for (long i = 1; i <= 5; i++)
		nty_coroutine_create(&co, reader, (void *)i);
	for (long i = 1; i <= 3; i++)
		nty_coroutine_create(&co, writer, (void *)(100 * i));
	for (int left = 1; left;) {
		left = 0;
		for (int i = 0; i < count; i++) {
			if (all[i]->done)
				continue;
			left = 1;
			current = all[i];
			swapcontext(&scheduler, &current->context);
		}
	}
	printf("%d coroutines, total %ld\n", count, total);
	return 0;
}
