package capture_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
)

// TestStackVDSO: the stack of a signal handler that interrupted the vdso goes through
// it, with the function named that was called, to main; also if it is unwound later.
func TestStackVDSO(t *testing.T) {
	for _, c := range []struct{ name, unwind string }{{"at once", ""}, {"offline", capture.UnwindOffline}} {
		t.Run(c.name, func(t *testing.T) {
			o, notes := options(t)
			o.Unwind = c.unwind
			r := recordWith(t, o, notes, buildStack(t, "vdso.c"))
			path := r.path
			if c.unwind != "" {
				path = finishStacks(t, path)
			}
			wholeStacks(t, path)
			through, beside := interruptions(t, path)
			if got := fmt.Sprint(through); got != r.value["inside"] || through < 100 {
				t.Errorf("%s stacks go through the vdso; the program was interrupted there %s times", got, r.value["inside"])
			}
			if got := fmt.Sprint(beside); got != r.value["elsewhere"] {
				t.Errorf("%s stacks of interruptions go past the vdso, want %s", got, r.value["elsewhere"])
			}
		})
	}
}

// interruptions counts the allocations of vdso.c's handler whose stacks are right: those
// in the vdso, and the others.
func interruptions(t *testing.T, path string) (inside, elsewhere int) {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wrong := 0
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc)}) {
		if err != nil {
			t.Fatal(err)
		}
		size := e.V[format.AllocSize]
		if size != 3000 && size != 2000 {
			continue
		}
		stack := r.Stack(format.StackID(e.V[format.AllocStack]), nil)
		// Within the vdso, only the function that the C library called has a name.
		vdso := -1
		for i, f := range stack {
			if r.Module(f.Module).Path == symbol.VDSOName {
				vdso = i
			}
		}
		main := slices.IndexFunc(stack, func(f format.Frame) bool { return f.Function == "main" })
		end := r.StackEnd(format.StackID(e.V[format.AllocStack]))
		switch {
		case end != format.EndComplete || main < 0 || stack[0].Function != "on_alarm":
		case size == 2000 && vdso < 0:
			elsewhere++
			continue
		case size == 3000 && vdso > 0 && vdso < main && strings.Contains(stack[vdso].Function, "clock_gettime"):
			inside++
			continue
		}
		if wrong++; wrong <= 3 {
			t.Errorf("%d bytes, end %v, stack %+v", size, end, stack)
		}
	}
	return inside, elsewhere
}
