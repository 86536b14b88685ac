// Prints "function file line offset" of itself, as the runtime knows it, with
// the program counter as an offset in the program's file.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// fileOffset looks an address up in what is mapped.
func fileOffset(pc uint64) uint64 {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(maps)) {
		var start, end, offset uint64
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s %x", &start, &end, &perms, &offset); err != nil {
			panic(err)
		}
		if pc >= start && pc < end {
			return pc - start + offset
		}
	}
	panic("not mapped")
}

//go:noinline
func report() {
	pc, file, line, _ := runtime.Caller(1)
	fmt.Println(runtime.FuncForPC(pc).Name(), file, line, fileOffset(uint64(pc)))
}

type store struct{ n int }

//go:noinline
func (s *store) add() {
	report()
	s.n++
}

//go:noinline
func each(f func()) { f() }

func main() {
	new(store).add()
	each(func() { report() })
}
