/*
 * Calls every free-like function that the allocator at hand defines, once per
 * size, each on a block of its own. Prints "ready PID", waits for a byte, and
 * prints "PID calls" when it is done.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const size_t sizes[] = {8, 100, 1000, 8192, 40000, 300000};

enum how { PLAIN, SIZED, ALIGNED, SIZED_ALIGNED, NOTHROW, FLAGS, SIZED_FLAGS };

static const struct {
	const char *name, *alloc;
	enum how how;
} table[] = {
	{"free", "malloc", PLAIN},
	{"cfree", "malloc", PLAIN},
	{"_ZdlPv", "_Znwm", PLAIN},
	{"_ZdaPv", "_Znam", PLAIN},
	{"_ZdlPvm", "_Znwm", SIZED},
	{"_ZdaPvm", "_Znam", SIZED},
	{"_ZdlPvRKSt9nothrow_t", "_Znwm", NOTHROW},
	{"_ZdlPvSt11align_val_t", "_ZnwmSt11align_val_t", ALIGNED},
	{"_ZdlPvmSt11align_val_t", "_ZnwmSt11align_val_t", SIZED_ALIGNED},
	{"dallocx", "malloc", FLAGS},
	{"sdallocx", "malloc", SIZED_FLAGS},
	{"mi_free", "mi_malloc", PLAIN},
	{"mi_free_size", "mi_malloc", SIZED},
	{"mi_cfree", "mi_malloc", PLAIN},
	{"tc_free", "tc_malloc", PLAIN},
	{"tc_free_sized", "tc_malloc", SIZED},
	{"tc_delete", "tc_new", PLAIN},
};

static void release(void *f, enum how how, void *p, size_t size)
{
	switch (how) {
	case PLAIN:
	case NOTHROW:
		((void (*)(void *, void *))f)(p, NULL);
		break;
	case SIZED:
		((void (*)(void *, size_t))f)(p, size);
		break;
	case ALIGNED:
		((void (*)(void *, size_t))f)(p, 64);
		break;
	case SIZED_ALIGNED:
		((void (*)(void *, size_t, size_t))f)(p, size, 64);
		break;
	case FLAGS:
		((void (*)(void *, int))f)(p, 0);
		break;
	case SIZED_FLAGS:
		((void (*)(void *, size_t, int))f)(p, size, 0);
		break;
	}
}

int main(int argc, char **argv)
{
	void *home = argc > 1 ? dlopen(argv[1], RTLD_NOW) : RTLD_DEFAULT;
	void *frees[sizeof(table) / sizeof(*table)], *allocs[sizeof(table) / sizeof(*table)];
	int calls = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		frees[i] = dlsym(home, table[i].name);
		allocs[i] = dlsym(home, table[i].alloc);
	}
	dprintf(1, "ready %d\n", getpid());
	(void)!read(0, &(char){0}, 1);
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		for (size_t j = 0; frees[i] && allocs[i] && j < sizeof(sizes) / sizeof(*sizes); j++) {
			void *p = ((void *(*)(size_t, size_t))allocs[i])(sizes[j], 64);
			release(frees[i], table[i].how, p, sizes[j]);
			calls++;
		}
	}
	/* dprintf would call free. */
	char line[64];
	int n = snprintf(line, sizeof(line), "%d %d\n", getpid(), calls);
	(void)!write(1, line, n);
	_exit(0);
}
