// Prints "name address" for return addresses whose source position the test
// knows: the line of the call, marked "call: name". Addresses are those of the
// ELF file, before relocation.
#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __clang__
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noipa)) // no clones either
#endif

static uintptr_t bias;

static int first(struct dl_phdr_info *info, size_t size, void *arg) {
	(void)size, (void)arg;
	bias = info->dlpi_addr;
	return 1;
}

KEEP void report(const char *name) {
	printf("%s %#lx\n", name, (unsigned long)((uintptr_t)__builtin_return_address(0) - bias));
}

static volatile int sink;

static inline __attribute__((always_inline)) void innermost(void) {
	report("nested"); // call: nested
	sink++;
}

static inline __attribute__((always_inline)) void middle(void) {
	sink += 2;
	innermost(); // call: middle
	sink += 3;
}

KEEP void outer(void) {
	report("plain"); // call: plain
	sink++;
	middle(); // call: outer
	sink++;
}


// The return address of a call that does not return lies behind its function.
KEEP __attribute__((noreturn)) void finish(void) {
	printf("last %#lx\n", (unsigned long)((uintptr_t)__builtin_return_address(0) - bias));
	exit(0);
}

KEEP __attribute__((noreturn)) void leave(void) {
	finish(); // call: last
}

KEEP void through_pointer(void (*f)(void)) {
	report("pointer"); // call: pointer
	f();
	sink++;
}

int main(void) {
	dl_iterate_phdr(first, 0);
	through_pointer(outer);
	leave();
}
