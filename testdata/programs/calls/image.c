/* A program whose calls of a library's called() come from functions with names of its own,
 * and that goes on as another. FIRST, or what is compiled without it:
 *
 * image STEP...: hit, calls; wait, says so and waits for a line; open FILE, has a
 * library call; uid N, becomes another user; exec PROGRAM STEP..., is replaced. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void called(void (*with)(int));

#if defined(LIBRARY)
#define CALLS plugin_calls
#define HANDLES plugin_handles
#elif defined(FIRST)
#define CALLS first_calls
#define HANDLES first_handles
#else
/* Where the other has its functions, this one has others. */
__attribute__((noipa)) void not_this_one(void) { puts("not this one"); }
__attribute__((noipa)) void nor_this_one(int n) { printf("nor this one %d\n", n); }
#define CALLS second_calls
#define HANDLES second_handles
#endif

#if defined(CALLED)
void called(void (*with)(int)) { asm volatile("" : : "r"(with) : "memory"); }
#else
__attribute__((noipa)) void HANDLES(int n) { (void)n; }

__attribute__((noipa)) void CALLS(void)
{
	called(HANDLES);
	asm volatile("" ::: "memory");
}
#endif

#if !defined(LIBRARY) && !defined(CALLED)
int main(int argc, char **argv)
{
	for (char **step = argv + 1; *step; step++) {
		if (!strcmp(*step, "hit")) {
			CALLS();
		} else if (!strcmp(*step, "wait")) {
			char line[8];

			if (write(1, ".", 1) != 1 || read(0, line, sizeof(line)) <= 0)
				return 0;
		} else if (!strcmp(*step, "open")) {
			void *library = dlopen(*++step, RTLD_NOW);
			void (*call)(void) = library ? (void (*)(void))dlsym(library, "plugin_calls") : NULL;

			if (!call)
				return 2;
			call();
		} else if (!strcmp(*step, "uid")) {
			if (setresuid(-1, atoi(*++step), -1))
				return 2;
		} else if (!strcmp(*step, "as")) {
			step++;
#if defined(FIRST)
			execv(*step, argv);
			return 2;
#endif
		} else if (!strcmp(*step, "exec")) {
			execv(step[1], step + 1);
			return 2;
		}
	}
	return argc == 0;
}
#endif
