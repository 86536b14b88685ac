//go:build ignore

// Command cgo calls C, which allocates on the stack of the thread: "stack SIZE
// FUNCTION..." says by what.
package main

/*
#include <stdlib.h>

#define FRAME __attribute__((noinline, noclone))

static FRAME void leaf(size_t n)
{
	void *volatile p = malloc(n);
	free(p);
	asm volatile("" ::: "memory");
}

static FRAME void outer(size_t n)
{
	leaf(n);
	asm volatile("" ::: "memory");
}
*/
import "C"

import "fmt"

//go:noinline
func call(n int) {
	C.outer(C.size_t(n))
}

func main() {
	for n := range 40 {
		call(4000 + n)
		fmt.Printf("stack %d leaf outer *\n", 4000+n)
	}
}
