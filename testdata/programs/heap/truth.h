// What the heap programs share: each tells the truth about itself on stdout,
// one line per fact, by write(2) alone so that telling it allocates nothing.
//
//	alloc FN SIZE ADDR        a call gave a block; FN may be a|b where the
//	realloc FN SIZE OLD ADDR  C library gives two functions one address
//	free FN ADDR
//	key=value                 anything else that a test wants to know
//
// Calls that gave nothing are not told: the recording must not have them.
#pragma once
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARK 31337 // the size of a block that begins, and the next time ends, what is told

__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...)
{
	char line[256]; // vdprintf would allocate a buffer
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (write(1, line, n) != n)
		_exit(4);
}

static inline void mark(void)
{
	free(malloc(MARK));
}

static inline unsigned long at(const void *p)
{
	return (unsigned long)p;
}

// wait_go blocks until the test has read the name and answered with a byte.
static inline void wait_go(const char *name)
{
	char c;

	say("%s\n", name);
	if (read(0, &c, 1) != 1)
		_exit(3);
}

static inline void *gave(const char *fn, size_t size, void *p)
{
	if (p)
		say("alloc %s %zu %#lx\n", fn, size, at(p));
	return p;
}

static inline void *t_malloc(size_t n)
{
	return gave("malloc", n, malloc(n));
}

static inline void *t_calloc(size_t n, size_t size)
{
	return gave("calloc", n * size, calloc(n, size));
}

static inline void *moved(const char *fn, unsigned long old, size_t n, void *p)
{
	if (p && old)
		say("realloc %s %zu %#lx %#lx\n", fn, n, old, at(p));
	else if (p)
		say("alloc %s %zu %#lx\n", fn, n, at(p));
	else if (old && n == 0)
		say("free %s %#lx\n", fn, old);
	return p;
}

static inline void *t_realloc(void *p, size_t n)
{
	unsigned long old = at(p);

	return moved("realloc", old, n, realloc(p, n));
}

static inline void t_free(void *p)
{
	if (p)
		say("free free %#lx\n", at(p));
	free(p);
}
