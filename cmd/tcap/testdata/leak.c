// Leaks 100 of 200 blocks of 64 bytes from leak_here, and exits with 7.
#include <stdlib.h>

void *kept[100];

__attribute__((noinline)) static void *leak_here(void) { return malloc(64); }

int main(void)
{
	for (int i = 0; i < 100; i++) {
		kept[i] = leak_here();
		free(leak_here());
	}
	return 7;
}
