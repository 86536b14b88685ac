// A program that is its own allocator, so that what happens inside an
// allocator call can be arranged: another thread gets the address, the call
// is left by longjmp, the process is killed, the recording begins or ends.
#include "truth.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

// --- the allocator: exact sizes, last freed first --------------------------------

#define EXPORTED __attribute__((noipa)) // called, and not copied into the caller

struct chunk {
	size_t size;
	struct chunk *next;
};

static char pool[8 << 20] __attribute__((aligned(16)));
static size_t used;
static struct chunk *freed;
static atomic_flag busy = ATOMIC_FLAG_INIT;
static void (*volatile hook)(void); // called once, inside the next call
static _Thread_local int depth;	    // how often malloc is still to call itself

static void *take(size_t size)
{
	struct chunk **at, *c;

	while (atomic_flag_test_and_set(&busy))
		;
	for (at = &freed; (c = *at) && c->size != size; at = &c->next)
		;
	if (c) {
		*at = c->next;
	} else {
		size_t need = (sizeof(*c) + size + 15) & ~15ul;

		if (need < size || need > sizeof(pool) - used) {
			atomic_flag_clear(&busy);
			errno = ENOMEM;
			return NULL;
		}
		c = (struct chunk *)(pool + used);
		used += need;
		c->size = size;
	}
	atomic_flag_clear(&busy);
	return c + 1;
}

static void give(void *p)
{
	struct chunk *c = (struct chunk *)p - 1;

	while (atomic_flag_test_and_set(&busy))
		;
	c->next = freed;
	freed = c;
	atomic_flag_clear(&busy);
}

static void run_hook(void)
{
	void (*h)(void) = hook;

	hook = NULL;
	if (h)
		h();
}

EXPORTED void *malloc(size_t size)
{
	void *p;

	if (depth > 0) {
		depth--;
		p = malloc(size);
		asm volatile("" ::: "memory"); // not a tail call
		return p;
	}
	p = take(size);
	run_hook();
	return p;
}

EXPORTED void free(void *p)
{
	if (p)
		give(p);
}

EXPORTED void *calloc(size_t n, size_t size)
{
	void *p;

	if (__builtin_mul_overflow(n, size, &size) || !(p = malloc(size)))
		return NULL;
	return memset(p, 0, size);
}

EXPORTED void *realloc(void *p, size_t size)
{
	void *q;

	if (!p)
		return malloc(size);
	if (!(q = take(size)))
		return NULL;
	memcpy(q, p, 16 < size ? 16 : size);
	give(p);
	run_hook(); // here p is anybody's
	return q;
}

// A tail call: the return of malloc is that of aligned_alloc.
EXPORTED void *aligned_alloc(size_t align, size_t size)
{
	return malloc(size);
}

// --- what is arranged ---------------------------------------------------------------

static _Atomic int stage;

static void until(int n)
{
	while (atomic_load(&stage) != n)
		;
}

static void *taker(void *old)
{
	until(1);
	if (t_malloc(64) != old)
		say("error=another address\n");
	atomic_store(&stage, 2);
	until(3);
	return NULL;
}

static void let_other_take(void)
{
	atomic_store(&stage, 1);
	until(2);
}

// B is handed A's old block while A's realloc has not returned.
static void race(void)
{
	pthread_t b;
	void *p = malloc(64);

	pthread_create(&b, NULL, taker, p);
	mark();
	hook = let_other_take;
	p = t_realloc(p, 128);
	t_free(p);
	mark();
	atomic_store(&stage, 3);
	pthread_join(b, NULL);
	say("blocks=1\nbytes=64\n");
}

static jmp_buf out;

static void leave(void)
{
	longjmp(out, 1);
}

// Out of malloc by longjmp, from the frame that called it and from deeper.
static __attribute__((noinline)) void deeper(int n)
{
	volatile char room[200];

	room[0] = n;
	if (n > 0)
		deeper(n - 1);
	else if (hook)
		malloc(500);
	else
		t_malloc(502);
	room[1] = n;
}

static void jumps(void)
{
	mark();
	for (volatile int i = 0; i < 5; i++) {
		hook = leave;
		if (!setjmp(out))
			deeper(i);
		t_free(t_malloc(100 + i));
		t_malloc(200 + i);
	}
	hook = leave;
	if (!setjmp(out))
		malloc(501);
	deeper(3); // at a lower stack pointer than the call that was left
	mark();
}

static void in_handler(int sig)
{
	t_free(t_malloc(300 + sig));
}

static void in_handler_quietly(int sig)
{
	free(malloc(300 + sig));
}

static void interrupt(void)
{
	raise(SIGUSR2);
}

// A signal handler that allocates: outside of the allocator its calls are told,
// inside they are a part of the interrupted call.
static void signals(void)
{
	signal(SIGUSR1, in_handler);
	signal(SIGUSR2, in_handler_quietly);
	mark();
	raise(SIGUSR1);
	hook = interrupt;
	t_malloc(20);
	t_malloc(21);
	mark();
}

static void die(void)
{
	raise(SIGKILL);
}

static void killed(void)
{
	mark();
	t_malloc(10);
	t_malloc(11);
	say("blocks=2\nbytes=21\n");
	hook = die;
	malloc(1000);
}

static void end_thread(void)
{
	syscall(SYS_exit, 0);
}

static void *vanish(void *arg)
{
	hook = end_thread;
	malloc(1000);
	return arg;
}

// Threads that end between the entry and the return of malloc.
static void vanishing(void)
{
	pthread_t t;

	for (int i = 0; i < 20; i++) {
		pthread_create(&t, NULL, vanish, NULL);
		pthread_join(t, NULL); // by the kernel's word: the thread's id is cleared
		mark();
		t_free(t_malloc(30 + i));
		t_malloc(60 + i);
		mark();
	}
}

static void deep(void)
{
	mark();
	for (int i = 60; i < 140; i += 20) {
		depth = i;
		t_free(t_malloc(i));
		t_malloc(1000 + i);
	}
	mark();
}

static void tail(void)
{
	mark();
	t_free(gave("aligned_alloc", 70, aligned_alloc(16, 70)));
	gave("aligned_alloc", 71, aligned_alloc(16, 71));
	t_calloc(2, 9);
	t_realloc(NULL, 33);
	mark();
}

static void wait_inside(void)
{
	wait_go("inside");
}

// The recording begins while a call is running: the block is one from before.
static void begun_inside(void)
{
	void *p;

	hook = wait_inside;
	p = malloc(400);
	mark();
	t_malloc(40);
	t_free(p);
	mark();
}

// The recording ends while a call is running.
static void ended_inside(void)
{
	wait_go("ready");
	mark();
	t_malloc(40);
	say("blocks=1\nbytes=40\n");
	hook = wait_inside;
	malloc(400);
	mark();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

#define WHEN(name, call) else if (!strcmp(what, name)) call
	if (0)
		;
	WHEN("race", race());
	WHEN("killed", killed());
	WHEN("begun_inside", begun_inside());
	WHEN("ended_inside", ended_inside());
	WHEN("all", (jumps(), signals(), vanishing(), deep(), tail()));
	else return 2;
	say("end=1\n");
	return 0;
}
