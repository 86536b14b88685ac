// Code that a program made: with a frame pointer, and without.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static volatile int sink;

__attribute__((noinline, noclone)) void leaf(void)
{
	free(malloc(7));
	sink++;
}

int main(int argc, char **argv)
{
	// push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret
	static const char framed[] = "\x55\x48\x89\xe5\xff\xd7\x5d\xc3";
	// push %rbp; xor %ebp,%ebp; call *%rdi; pop %rbp; ret
	static const char bare[] = "\x55\x31\xed\xff\xd7\x5d\xc3";
	char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		return 1;
	memcpy(code, argc > 1 ? bare : framed, 8);
	((void (*)(void (*)(void)))code)(leaf);
	return sink == 0;
}
