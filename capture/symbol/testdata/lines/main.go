// Prints "function file line pc" of itself, as the runtime knows it. The pc is
// that of the file: what the program was moved by is subtracted.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// bias returns the address of the program's first mapping, which is 0 in a
// position-independent file. Others are not moved.
func bias() uintptr {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(line, os.Args[0]+"\n") {
			continue
		}
		var start uintptr
		if _, err := fmt.Sscanf(line, "%x", &start); err != nil {
			panic(err)
		}
		if start < 1<<32 {
			return 0
		}
		return start
	}
	panic("not mapped")
}

//go:noinline
func report() {
	pc, file, line, _ := runtime.Caller(1)
	fmt.Println(strings.ReplaceAll(runtime.FuncForPC(pc).Name(), " ", "_"), file, line, uint64(pc-bias()))
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
