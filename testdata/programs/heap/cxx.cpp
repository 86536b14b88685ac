// C++: operator new and delete in their forms, and threads full of them. Where
// the allocator does not define the operators, they are malloc and free; where
// one merely calls another function of the allocator, that one is told.
#include "truth.h"
#include <atomic>
#include <new>
#include <pthread.h>

static void *one(const char *fn, size_t size, void *p)
{
	return gave(fn, size, p);
}

static void gone(const char *fn, void *p)
{
	say("free %s %#lx\n", fn, at(p));
}

// Sizes are such that no allocator rounds them before it is called.
static void forms()
{
	const char *n = "new|malloc", *a = "new[]|new|malloc", *al = "new|aligned_alloc", *aal = "new[]|new|aligned_alloc";
	const char *d = "delete|free|sdallocx|free_sized", *da = "delete[]|delete|free|sdallocx|free_sized";
	std::align_val_t align{64};
	void *p;

	mark();
	p = one(n, 100, operator new(100)); gone(d, p); operator delete(p);
	p = one(n, 101, operator new(101)); gone(d, p); operator delete(p, 101ul);
	p = one(a, 102, operator new[](102)); gone(da, p); operator delete[](p);
	p = one(a, 103, operator new[](103)); gone(da, p); operator delete[](p, 103ul);
	p = one(n, 104, operator new(104, std::nothrow)); gone(d, p); operator delete(p, std::nothrow);
	p = one(a, 105, operator new[](105, std::nothrow)); gone(da, p); operator delete[](p, std::nothrow);
	p = one(al, 128, operator new(128, align)); gone(d, p); operator delete(p, align);
	p = one(al, 192, operator new(192, align)); gone(d, p); operator delete(p, 192ul, align);
	p = one(aal, 256, operator new[](256, align)); gone(da, p); operator delete[](p, align);
	p = one(aal, 320, operator new[](320, align)); gone(da, p); operator delete[](p, 320ul, align);
	one(n, 400, operator new(400));
	one(a, 410, operator new[](410));
	one(al, 448, operator new(448, align));
	operator delete(nullptr);
	mark();
}

struct item {
	long value[4];
};

static long per_thread;
static std::atomic<long> blocks, bytes;

// Every thread keeps every 10,000th of its items, and nothing else.
static void *work(void *arg)
{
	long kept = 0, kept_bytes = 0;

	for (long i = 0; i < per_thread; i++) {
		item *p = new item;

		p->value[0] = i;
		asm volatile("" : : "r"(p) : "memory");
		if (i % 10000 == 5000) {
			kept++;
			kept_bytes += sizeof(item);
			continue;
		}
		delete p;
	}
	if (!operator new(1000 + (long)arg)) // each thread's own
		say("error=new\n");
	blocks += kept + 1;
	bytes += kept_bytes + 1000 + (long)arg;
	return nullptr;
}

static void threads(int n, long each)
{
	pthread_t t[64];

	per_thread = each;
	for (long i = 0; i < n; i++)
		pthread_create(&t[i], nullptr, work, (void *)i);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], nullptr);
	say("blocks=%ld\nbytes=%ld\n", blocks.load(), bytes.load());
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "threads"))
		threads(atoi(argv[2]), atol(argv[3]));
	else if (argc > 1 && !strcmp(argv[1], "forms"))
		forms();
	else
		return 2;
	say("end=1\n");
	return 0;
}
