package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// analysisHeap is more than the heap of most analyses, bytes.
const analysisHeap = 128 << 20

// hugePages has the heap grow in pages of 2 MiB where the kernel leaves that to
// programs: an analysis touches tens of MiB, in no order, and each 4 KiB of them
// would be a page fault, and an entry of the TLB. Go asks for none, so the heap is made as
// large once, never touched, advised and given back to it. Where the kernel does
// not want to, nothing is lost.
func hugePages() {
	heap := make([]byte, analysisHeap)
	_ = unix.Madvise(heap, unix.MADV_HUGEPAGE)
	runtime.GC() // heap is free from here
}
