// Frames of every shape that a compiler makes without frame pointers.
#include <alloca.h>
#include <stdlib.h>
#include <string.h>

static volatile int sink;
static int depth = 120;

// The compiler must not replace the calls by jumps.
#define FRAME __attribute__((noinline, noclone))

FRAME void *leaf(int n)
{
	void *p = malloc(n);
	sink++;
	return p;
}

// A frame whose size is known at run time only: it needs rbp.
FRAME void *variable(int n)
{
	char *room = alloca(n * 16);
	memset(room, n, n * 16);
	void *p = leaf(room[3] + 5);
	sink += room[5];
	return p;
}

// A realigned stack: the CFA is found through a saved pointer (DRAP).
FRAME void *aligned(int n)
{
	char room[n * 32 + 64] __attribute__((aligned(64)));
	memset(room, n, sizeof room);
	void *p = variable(room[7] + 1);
	sink += room[9];
	return p;
}

FRAME void *recurse(int n, int bottom)
{
	void *p = n == 0 ? aligned(bottom) : recurse(n - 1, bottom);
	sink++;
	return p;
}

static int compare(const void *a, const void *b)
{
	free(recurse(depth, 3));
	return *(const int *)a - *(const int *)b;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		depth = atoi(argv[1]);
	int v[4] = { 4, 3, 2, 1 };
	qsort(v, 4, sizeof *v, compare);
	return v[0] != 1;
}
