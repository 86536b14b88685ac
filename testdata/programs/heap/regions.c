// The memory system calls, by way of libc's wrappers.
#include "truth.h"
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE 4096ul

static char *map(void *where, size_t length, int flags)
{
	void *p = mmap(where, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	say("map %zu %#lx\n", length, at(p));
	return p;
}

static void unmap(void *p, size_t length)
{
	if (munmap(p, length) == 0)
		say("unmap %zu %#lx\n", length, at(p));
}

int main(void)
{
	char *p, *q, *r, *old_break;
	size_t bytes = 0;

	mark();
	p = map(NULL, 8 * PAGE, 0);
	unmap(p + 2 * PAGE, 2 * PAGE); // out of the middle: 6 pages in 2 ranges
	bytes += 6 * PAGE;
	q = map(NULL, 4 * PAGE, 0);
	r = map(q + 4 * PAGE, 4 * PAGE, MAP_FIXED_NOREPLACE);
	if (!r)
		r = map(q - 4 * PAGE, 4 * PAGE, MAP_FIXED_NOREPLACE), q = r, r = q + 4 * PAGE;
	unmap(q + PAGE, 6 * PAGE); // of both: 1 page of each is left
	bytes += 2 * PAGE;
	p = map(NULL, 3 * PAGE, 0);
	map(p + PAGE, PAGE, MAP_FIXED); // over a live one
	bytes += 3 * PAGE;
	p = map(NULL, 5000, 0); // rounded up to 2 pages
	q = mremap(p, 5000, 64 * PAGE, MREMAP_MAYMOVE);
	say("remap 5000 %#lx %lu %#lx\n", at(p), 64 * PAGE, at(q));
	p = mremap(q, 64 * PAGE, PAGE, 0); // shrinks in place
	say("remap %lu %#lx %lu %#lx\n", 64 * PAGE, at(q), PAGE, at(p));
	bytes += PAGE;
	p = map(NULL, 10 * PAGE, 0);
	unmap(p, 9 * PAGE + 1); // a part of a page is the page
	say("failed=%d\n", !map(NULL, 1ul << 60, 0) + (mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0) == MAP_FAILED) +
		(munmap((void *)1, PAGE) != 0) + (mremap((void *)PAGE, PAGE, 2 * PAGE, 0) == MAP_FAILED));
	old_break = sbrk(0);
	if (sbrk(5 * PAGE) != (void *)-1)
		say("brk %#lx %#lx\n", at(old_break), at(old_break + 5 * PAGE));
	if (sbrk(-2 * (long)PAGE) != (void *)-1)
		say("brk %#lx %#lx\n", at(old_break + 5 * PAGE), at(old_break + 3 * PAGE));
	bytes += 3 * PAGE;
	mark();
	say("bytes=%zu\nend=1\n", bytes);
	return 0;
}
