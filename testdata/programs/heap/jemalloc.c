// jemalloc's own interface: linked, or opened while the program runs.
#include "truth.h"
#include <dlfcn.h>

static void *(*mallocx_)(size_t, int), *(*rallocx_)(void *, size_t, int);
static void (*sdallocx_)(void *, size_t, int), (*dallocx_)(void *, int);

#ifdef LINKED
#include <jemalloc/jemalloc.h>

static void find(const char *library)
{
	mallocx_ = mallocx;
	rallocx_ = rallocx;
	sdallocx_ = sdallocx;
	dallocx_ = dallocx;
}
#else
static void find(const char *library)
{
	void *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	if (!lib) {
		say("error=%s\n", dlerror());
		return;
	}
	mallocx_ = dlsym(lib, "mallocx");
	rallocx_ = dlsym(lib, "rallocx");
	sdallocx_ = dlsym(lib, "sdallocx");
	dallocx_ = dlsym(lib, "dallocx");
}
#endif

int main(int argc, char **argv)
{
	void *p, *q;

	if (argc > 2)
		wait_go("ready");
	find(argc > 1 ? argv[1] : NULL);
	if (argc > 2)
		wait_go("opened");
	mark();
	p = gave("mallocx", 100, mallocx_(100, 0));
	say("free sdallocx %#lx\n", at(p));
	sdallocx_(p, 100, 0);
	p = gave("mallocx", 200, mallocx_(200, 6)); // 64 bytes aligned
	q = rallocx_(p, 9000, 0);
	moved("rallocx", at(p), 9000, q);
	say("free dallocx %#lx\n", at(q));
	dallocx_(q, 0);
	gave("mallocx", 300, mallocx_(300, 0));
	t_free(t_malloc(30)); // libc's, or jemalloc's where it is linked
	t_malloc(40);
	mark();
	say("end=1\n");
	return 0;
}
