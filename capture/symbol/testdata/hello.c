// The source of hello.elf, a seed for fuzzing. Built by
// gcc -g -fdebug-prefix-map=$PWD=/src -O2 -nostdlib -static -ffreestanding -fno-asynchronous-unwind-tables -Wl,--build-id,-z,noseparate-code -o hello.elf hello.c
static volatile int sink;
static inline __attribute__((always_inline)) int twice(int n) { return sink + 2 * n; }
__attribute__((noinline)) int work(int n) { return twice(n) + 1; }
void _start(void) {
	for (;;)
		work(sink);
}
