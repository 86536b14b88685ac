// Functions in assembly that nothing describes. Each calls its argument.
#include <stdlib.h>

static volatile int sink;

__attribute__((noinline, noclone)) void leaf(void)
{
	free(malloc(7));
	sink++;
}

// Its code can be followed to its return, past a jump and a push.
void plain(void (*f)(void));
asm(".globl plain\n.type plain, @function\nplain:\n"
    "	push %rbx\n	push %r12\n	sub $40, %rsp\n	mov %rdi, %rbx\n	call *%rdi\n"
    "	test %rbx, %rbx\n	jne 1f\n	ud2\n"
    "1:	add $40, %rsp\n	pop %r12\n	pop %rbx\n	ret\n.size plain, .-plain\n");

// It cannot, but it has a frame pointer.
void framed(void (*f)(void));
asm(".globl framed\n.type framed, @function\nframed:\n"
    "	push %rbp\n	mov %rsp, %rbp\n	sub $64, %rsp\n	call *%rdi\n"
    "	lea 1f(%rip), %rax\n	jmp *%rax\n"
    "1:	leave\n	ret\n.size framed, .-framed\n");

// Nor has it a frame pointer: rbp is a number here.
void opaque(void (*f)(void));
asm(".globl opaque\n.type opaque, @function\nopaque:\n"
    "	push %rbp\n	mov $12345, %ebp\n	sub $64, %rsp\n	call *%rdi\n"
    "	lea 1f(%rip), %rax\n	jmp *%rax\n"
    "1:	add $64, %rsp\n	pop %rbp\n	ret\n.size opaque, .-opaque\n");

// Two ways to a return that contradict each other: data, seen as code.
void liar(void (*f)(void));
asm(".globl liar\n.type liar, @function\nliar:\n"
    "	mov $0, %ebp\n	sub $24, %rsp\n	call *%rdi\n"
    "	jc 1f\n	add $24, %rsp\n	ret\n"
    "1:	add $8, %rsp\n	ret\n.size liar, .-liar\n");

int main(int argc, char **argv)
{
	void (*bare[])(void (*)(void)) = { plain, framed, opaque, liar };
	bare[argc - 1](leaf);
	return sink == 0;
}
