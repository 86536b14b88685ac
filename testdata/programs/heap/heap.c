// The pitfalls of the C heap, by subcommand. Builds with glibc and musl, shared
// and static, and runs with any allocator preloaded.
#include "truth.h"
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#ifdef __GLIBC__
#include <dlfcn.h>
#endif

#ifndef NO_DLVSYM
#define NO_DLVSYM 0
#endif

// Every name for a block, each freed.
static void aliases(void)
{
	void *p;

	mark();
	t_free(t_malloc(10));
	t_free(t_calloc(3, 7));
	t_free(gave("memalign|aligned_alloc", 100, memalign(32, 100)));
	t_free(gave("aligned_alloc", 128, aligned_alloc(64, 128)));
#ifdef __GLIBC__
	t_free(gave("valloc", 50, valloc(50)));
	t_free(gave("pvalloc", 60, pvalloc(60)));
	t_free(moved("reallocarray|realloc", 0, 30, reallocarray(NULL, 3, 10)));
#endif
	if (posix_memalign(&p, 64, 70) == 0)
		t_free(gave("posix_memalign", 70, p));
#if defined(__GLIBC__) && !NO_DLVSYM
	// Programs linked before glibc 2.26 may still call it.
	void (*cfree)(void *) = (void (*)(void *))dlvsym(RTLD_DEFAULT, "cfree", "GLIBC_2.2.5");
	if (cfree) {
		p = t_malloc(11);
		say("free free|cfree %#lx\n", at(p));
		cfree(p);
		say("cfree=1\n");
	}
#endif
	mark();
}

// A block above the mmap threshold is one block, and the mmap is the allocator's.
static void large(void)
{
	mark();
	t_malloc(200 << 10);
	void *p = t_malloc(300 << 10);
	mark();
	free(p);
}

static _Atomic int step;

static void await_step(int n)
{
	while (atomic_load(&step) != n)
		sched_yield();
}

static void *first_in_arena(void *arg)
{
	await_step(1);
	t_malloc(100); // makes the arena
	t_free(t_malloc(50));
	atomic_store(&step, 2);
	await_step(3); // the C library frees when a thread ends
	return arg;
}

static void arena(void)
{
	pthread_t t;

	pthread_create(&t, NULL, first_in_arena, NULL);
	mark();
	atomic_store(&step, 1);
	await_step(2);
	mark();
	atomic_store(&step, 3);
	pthread_join(t, NULL);
}

static void limit_memory(rlim_t bytes)
{
	struct rlimit limit;

	getrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = bytes ? bytes : limit.rlim_max;
	if (setrlimit(RLIMIT_AS, &limit))
		say("error=setrlimit\n");
}

static void reallocs(void)
{
	void *p, *q, *r;

	mark();
	p = t_realloc(NULL, 10);
	q = t_realloc(p, 20); // within the chunk
	say("in_place=%d\n", p == q);
	r = t_malloc(24); // in the way of growing
	p = t_realloc(q, 5000);
	say("moved=%d\n", p != q);
	p = t_realloc(p, 16);
	if (!t_realloc(p, 0))
		say("zero=freed\n");
	p = t_malloc(1 << 20);
	p = t_realloc(p, 16 << 20); // mremap
	limit_memory(64 << 20);
	q = t_realloc(p, 1 << 30);
	say("failed=%d\n", q == NULL);
	limit_memory(0);
#ifdef __GLIBC__
	// Overflows: the block lives on. The second product is 0 modulo 2^64, and
	// must not be taken for a realloc to nothing.
	say("overflows=%d\n", !reallocarray(p, SIZE_MAX, 2) + !reallocarray(p, 1ul << 32, 1ul << 32));
#endif
	t_free(p);
	t_free(r);
	mark();
}

static void posix(void)
{
	static const size_t aligns[] = {3, 8, 16, 4096, 0};
	char stale;
	void *p;

	mark();
	for (int i = 0; i < 5; i++) {
		p = &stale; // what a reader of *memptr finds after a failure
		int err = posix_memalign(&p, aligns[i], 100);
		say("align%zu=%d\n", aligns[i], err);
		if (!err)
			gave("posix_memalign", 100, p);
	}
	p = &stale;
	say("huge=%d\n", posix_memalign(&p, 64, SIZE_MAX / 2));
	mark();
}

static void overflow(void)
{
	volatile size_t many = SIZE_MAX;

	mark();
	say("calloc=%d\n", calloc(many, 2) == NULL);
	say("calloc_zero=%d\n", calloc(1ul << 32, 1ul << 32) == NULL);
	say("malloc=%d\n", malloc(many - 100) == NULL);
	say("aligned=%d\n", aligned_alloc(64, many - 100) == NULL);
	t_malloc(1);
	mark();
}

static void nulls(int n)
{
	mark();
	for (int i = 0; i < n; i++)
		free(NULL);
	t_malloc(1);
	mark();
}

// twice frees a block again behind the allocator's back: its check for that
// looks at a key in the block, which is overwritten.
static void twice(void)
{
	void *volatile p;

	mark();
	p = t_malloc(40);
	t_free(p);
	((volatile uint64_t *)p)[1] = 0;
	t_free(p);
	mark();
	_exit(0); // the allocator's lists are wrong now
}

static void twice_abort(void)
{
	void *volatile p;

	mark();
	p = t_malloc(40);
	t_free(p);
	say("free free %#lx\n", at(p)); // the entry is seen, before the abort
	free(p);
	say("error=survived\n");
}

static void zero(void)
{
	mark();
	t_free(t_malloc(0));
	t_malloc(0);
	t_calloc(0, 5);
	t_realloc(NULL, 0);
	mark();
}

// Thousands of blocks from one thread to the other, freed there at once, so
// that addresses are in use again within a microsecond on another CPU.
#define SLOTS 4
static _Atomic(void *) slots[SLOTS];
static int handed;
static long kept_blocks, kept_bytes;

static void *consumer(void *arg)
{
	for (int i = 0; i < handed; i++) {
		void *p;

		while (!(p = atomic_exchange(&slots[i % SLOTS], NULL)))
			sched_yield();
		if (i % 1000 == 999) { // planted
			kept_blocks++;
			kept_bytes += 32 + i % 3;
			continue;
		}
		free(p);
	}
	return arg;
}

static void handoff(int n)
{
	pthread_t t;

	handed = n;
	pthread_create(&t, NULL, consumer, NULL);
	for (int i = 0; i < n; i++) {
		void *p = malloc(32 + i % 3);

		while (atomic_load(&slots[i % SLOTS]))
			sched_yield();
		atomic_store(&slots[i % SLOTS], p);
	}
	pthread_join(t, NULL);
	say("blocks=%ld\nbytes=%ld\n", kept_blocks, kept_bytes);
}

// Blocks that are not freed, and nothing else.
static void leak(long n, size_t size)
{
	for (long i = 0; i < n; i++)
		if (!malloc(size))
			say("error=malloc\n");
	say("blocks=%ld\nbytes=%zu\n", n, n * size);
}

// Allocates and frees as fast as it can; planted leaks have a size of their own.
static void churn(long n)
{
	void *held[64] = {};
	long kept = 0;

	for (long i = 0; i < n; i++) {
		free(held[i % 64]);
		held[i % 64] = malloc(100 + i % 64);
		if (i % 1000 == 0) {
			if (!malloc(7777))
				say("error=malloc\n");
			kept++;
		}
	}
	for (int i = 0; i < 64; i++)
		free(held[i]);
	say("mallocs=%ld\nfrees=%ld\nblocks=%ld\nbytes=%ld\n", n + kept, n, kept, kept * 7777);
}

// bcc#4970 and bcc#4869: two threads that leak 4 bytes, n times each.
static void *fours(void *arg)
{
	for (long i = 0; i < (long)arg; i++)
		if (!malloc(4))
			say("error=malloc\n");
	return NULL;
}

static void two_threads(long n)
{
	pthread_t a, b;

	pthread_create(&a, NULL, fours, (void *)n);
	pthread_create(&b, NULL, fours, (void *)n);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	say("blocks=%ld\nbytes=%ld\n", 2 * n, 8 * n);
}

// The same by way of one thread after the other, so that the second may get
// the first one's arena and stack back (bcc#4869).
static void two_after(long n)
{
	pthread_t a;

	for (int i = 0; i < 2; i++) {
		pthread_create(&a, NULL, fours, (void *)n);
		pthread_join(a, NULL);
	}
	say("blocks=%ld\nbytes=%ld\n", 2 * n, 8 * n);
}

// Works with a block from before the recording, then ends.
static void attached(void)
{
	void *before = malloc(123), *gone = malloc(124), *grown = malloc(24);

	wait_go("ready");
	mark();
	t_free(before);
	t_malloc(55);
	t_free(gone);
	t_realloc(grown, 9000);
	mark();
}

// serve does what it is told, a byte per request, for ever: m allocates, q quits.
static void serve(void)
{
	char c;

	say("ready\n");
	while (read(0, &c, 1) == 1 && c != 'q') {
		if (c == 'm')
			t_malloc(77);
		say("done\n");
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	long n = argc > 2 ? atol(argv[2]) : 1, size = argc > 3 ? atol(argv[3]) : 1;

#define WHEN(name, call) else if (!strcmp(what, name)) call
	if (0)
		;
	WHEN("large", large());
	WHEN("twice", twice());
	WHEN("twice_abort", twice_abort());
	WHEN("handoff", handoff(n));
	WHEN("leak", leak(n, size));
	WHEN("churn", churn(n));
	WHEN("two_threads", two_threads(n));
	WHEN("two_after", two_after(n));
	WHEN("attached", attached());
	WHEN("serve", serve());
	WHEN("basics", (aliases(), reallocs(), posix(), overflow(), nulls(n), zero(), arena()));
	WHEN("preloaded", (reallocs(), posix(), overflow(), nulls(n), zero(), arena()));
	else return 2;
	say("end=1\n");
	return 0;
}
