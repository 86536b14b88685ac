package capture_test

import (
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/format"
)

// TestProcessShell: a child that starts children and waits for each. Before
// Linux 6.12 some of what it does at first may be missing; then it is told, and
// what comes later is there.
func TestProcessShell(t *testing.T) {
	n := max(kerneltest.Repeat(200), 50)
	r := record(t, build(t, "shell.c"), itoa(n))
	if r.value["end"] != "1" || r.sum.Lost != 0 {
		t.Fatalf("%d events lost, the program said %v", r.sum.Lost, r.value)
	}
	children, grandchildren, target := map[uint64]bool{}, map[uint64]bool{}, 0
	for _, h := range r.events(format.KindAlloc) {
		switch size := h.V[format.AllocSize]; {
		case size >= 100000:
			grandchildren[size-100000] = true
		case size == 7777:
			target++
		case size >= 1000:
			children[size-1000] = true
		}
	}
	missing := 2*n - len(children) - len(grandchildren)
	told := strings.Contains(r.notes, "before 6.12")
	t.Logf("%d of %d allocations missing, notes %q", missing, 2*n, r.notes)
	switch {
	case probe.KernelKeepsProbes() && (missing != 0 || r.notes != ""):
		t.Error("nothing may be missing on this kernel")
	case missing != 0 && !told:
		t.Error("what is missing is not told")
	}
	if target != 1 || !children[uint64(n-1)] || !grandchildren[uint64(n-1)] {
		t.Errorf("the last allocations are missing: target %d, child %v, grandchild %v", target, children, grandchildren)
	}
}
