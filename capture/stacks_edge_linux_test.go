package capture_test

import (
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// TestStackEdge: a stack that ends where nothing can be read is copied up to there, and
// what could not be read is not taken for zeros, which would be its end.
func TestStackEdge(t *testing.T) {
	_, path := recordStacks(t, nil, buildStack(t, "edge.c"))
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := 0
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc)}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.V[format.AllocSize] != 123 {
			continue
		}
		n++
		frames := r.Stack(format.StackID(e.V[format.AllocStack]), nil)
		var names []string
		for _, f := range frames {
			names = append(names, f.Function)
		}
		if len(names) < 2 || names[0] != "leaf" || names[1] != "run" {
			t.Fatalf("the stack is %s", strings.Join(names, ";"))
		}
	}
	if n != 50 {
		t.Errorf("%d blocks, want 50", n)
	}
}
