// The frames of arm64, without a C library, so that the program is small enough
// to be kept with its recordings: arm64.elf, and for the frame pointers, which
// nothing describes, arm64fp.elf.
//
//	aarch64-linux-gnu-gcc -static -nostdlib -fno-stack-protector -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
//		-fno-optimize-sibling-calls -O2 -fomit-frame-pointer -mbranch-protection=standard -o arm64.elf arm64.c
//	the same with -fno-omit-frame-pointer -fno-asynchronous-unwind-tables -fno-unwind-tables -DBARE -o arm64fp.elf
//	qemu-aarch64-static -cpu max -g 12345 arm64.elf &
//	gdb-multiarch -nx -batch -ex 'target remote :12345' -ex 'handle SIGUSR1 nostop noprint pass' -ex 'break *leaf' \
//		-ex 'continue' -ex 'source snapshot.py' -ex 'python record("arm64.json", 1 << 14, 40)' arm64.elf
//	gzip -9n arm64.json
#define FRAME __attribute__((noinline, noclone))

typedef unsigned long word;

static volatile int sink;

static word call(word number, word a, word b, word c, word d)
{
	register word x8 asm("x8") = number, x0 asm("x0") = a, x1 asm("x1") = b, x2 asm("x2") = c, x3 asm("x3") = d;
	asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

FRAME int leaf(int n)
{
	sink += n; // x30 keeps the return address
	return sink;
}

FRAME int large(int n)
{
	char room[5000]; // an offset that takes two instructions
	for (int i = 0; i < n; i++)
		((volatile char *)room)[i * 70] = i;
	return leaf(room[70 * (n - 1)]) + 1;
}

FRAME int variable(int n)
{
	char room[n * 16];
	for (int i = 0; i < n; i++)
		((volatile char *)room)[i * 16] = i;
	return large(room[16 * (n - 1)] + 2) + 1;
}

FRAME int recurse(int n, int a, int b, int c, int d)
{
	if (n == 0)
		return variable(3 + (a & 1));
	int sum = recurse(n - 1, b, c, d, a);
	return sum + a + b * c + d;
}

static void handler(int sig)
{
	recurse(12, sig, 2, 3, 4);
	sink++;
}

// What an action without SA_RESTORER returns to is in the vdso, which QEMU has not.
void restorer(void);
asm("restorer:\n	mov x8, #139\n	svc #0\n.size restorer, .-restorer\n");

FRAME int interrupted(int n)
{
	call(129, call(172, 0, 0, 0, 0), 10, 0, 0); // kill(getpid(), SIGUSR1)
	return sink + n;
}

FRAME int begin(void)
{
	struct { void (*f)(int); word flags; void (*restorer)(void); word mask; } action = { handler, 0x04000000, restorer, 0 };
	call(134, 10, (word)&action, 0, 8); // rt_sigaction
	return interrupted(5) + 1;
}

asm(".globl _start\n_start:\n"
#ifndef BARE
    "	.cfi_startproc\n	.cfi_undefined x30\n"
#endif
    "	mov x29, #0\n	mov x30, #0\n	bl begin\n	mov x8, #93\n	svc #0\n"
#ifndef BARE
    "	.cfi_endproc\n"
#endif
    ".size _start, .-_start\n"
);
