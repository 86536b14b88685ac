// Go that calls C, which allocates on the thread's stack.
package main

/*
#include <stdlib.h>
static __attribute__((noinline)) void *grab(int n) { void *p = malloc(n); *(volatile char *)p = 1; return p; }
*/
import "C"

func main() { C.free(C.grab(77)) }
