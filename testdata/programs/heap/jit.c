/*
 * Writes a function into memory, tells of it in /tmp/perf-PID.map as virtual
 * machines do, and has it allocate 10 blocks of 12345 bytes. The file stays, as
 * theirs do. With -DGIVEN_AWAY it belongs to somebody else.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	/* push %rbp; mov %rsp,%rbp; mov $malloc,%rax; call *%rax; pop %rbp; ret */
	unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0, 0x5d, 0xc3};
	void *(*target)(size_t) = malloc;
	memcpy(code + 6, &target, sizeof target);
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return 1;
	memcpy(at, code, sizeof code);

	char name[64];
	snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
	FILE *map = fopen(name, "w");
	if (map == NULL)
		return 1;
	fprintf(map, "%lx %zx Interpreter:generated\n", (unsigned long)(uintptr_t)at, sizeof code);
	if (fclose(map) != 0)
		return 1;
#ifdef GIVEN_AWAY
	if (chown(name, 12345, 12345) != 0)
		return 1;
#endif
	for (int i = 0; i < 10; i++)
		if (((void *(*)(size_t))at)(12345) == NULL)
			return 1;
	printf("map=%s\nend=1\n", name);
	return 0;
}
