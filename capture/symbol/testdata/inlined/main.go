// Prints what the runtime knows of inlined calls, program counters as offsets in the
// program's file: "calls OFFSET", then "FUNCTION FILE LINE" of all that is inlined there
// and of what holds the code, on one line; and "at OFFSET FUNCTION FILE LINE" for
// addresses all over the program, of the innermost call there.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

type code struct{ start, end, offset uintptr }

// own finds this program's code.
func own() code {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(maps)) {
		var c code
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s %x", &c.start, &c.end, &perms, &c.offset); err != nil {
			panic(err)
		}
		if perms == "r-xp" && strings.HasSuffix(strings.TrimSpace(line), exe) {
			return c
		}
	}
	panic("not mapped")
}

var (
	self code
	out  = bufio.NewWriter(os.Stdout)
)

//go:noinline
func report() {
	pcs := make([]uintptr, 64)
	pcs = pcs[:runtime.Callers(2, pcs)]
	fmt.Fprintf(out, "calls %d", pcs[0]-self.start+self.offset)
	for frames := runtime.CallersFrames(pcs); ; {
		f, more := frames.Next()
		fmt.Fprintf(out, " %s %s %d", f.Function, f.File, f.Line)
		if f.Func != nil || !more { // it was not inlined
			break
		}
	}
	fmt.Fprintln(out)
}

func innermost() { report() }

type store struct{ n int }

func (s *store) add() {
	s.n++
	innermost()
}

func both(s *store) {
	s.add()
	innermost()
}

//go:noinline
func holds(s *store) {
	both(s)
	func() {
		s.add()
	}()
	s.add()
	report()
}

func main() {
	self = own()
	holds(new(store))
	const prime = 61
	for pc := self.start; pc < self.end; pc += prime {
		f := runtime.FuncForPC(pc + 1)
		if f == nil || f.Entry() == pc+1 { // which is behind no call of its function
			continue
		}
		frames := runtime.CallersFrames([]uintptr{pc + 1}) // as behind a call
		if at, _ := frames.Next(); at.Function != "" && at.Line > 0 {
			fmt.Fprintln(out, "at", pc+1-self.start+self.offset, at.Function, at.File, at.Line)
		}
	}
	if err := out.Flush(); err != nil {
		panic(err)
	}
}
