package capture_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// wholeStacks fails the test unless at least 99 % of allocations, of which there are
// some, have a stack that is complete.
func wholeStacks(t *testing.T, path string) {
	t.Helper()
	ends := stackEnds(t, path)
	all := 0
	for _, n := range ends {
		all += n
	}
	if all == 0 || 100*ends[format.EndComplete] < 99*all {
		t.Errorf("%d of %d stacks are complete: %v", ends[format.EndComplete], all, ends)
	}
}

// stackEnds counts allocations by how their stacks end.
func stackEnds(t *testing.T, path string) map[format.StackEnd]int {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ends := map[format.StackEnd]int{}
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc, format.KindRealloc)}) {
		if err != nil {
			t.Fatal(err)
		}
		id := format.StackID(e.V[format.AllocStack])
		if e.Kind == format.KindRealloc {
			id = format.StackID(e.V[format.ReallocStack])
		}
		ends[r.StackEnd(id)]++
	}
	return ends
}

// inMain are the sites from the first that main is in to the last. A stack of which a
// tool has no more than so many frames is taken for one of main's, too.
func inMain(list []site, most int) []site {
	inside := func(s site) bool { return s.has("main") || len(s.calls) >= most }
	first := slices.IndexFunc(list, inside)
	if first < 0 {
		return nil
	}
	last := first
	for i := first; i < len(list); i++ {
		if inside(list[i]) {
			last = i
		}
	}
	return list[first : last+1]
}

const anyFrames = 1 << 20

// sameSites compares a capture with what another tool says, allocation by allocation.
func sameSites(t *testing.T, tool string, got, want []site) {
	t.Helper()
	if len(want) == 0 {
		t.Fatalf("%s has no allocation in main", tool)
	}
	wrong := 0
	for i := range max(len(got), len(want)) {
		var g, w site
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g.size == w.size && slices.Equal(g.calls, w.calls) {
			continue
		}
		if wrong++; wrong <= 3 {
			t.Errorf("allocation %d of %d:\n     tcap %s\n%9s %s", i+1, len(want), &g, tool, &w)
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d allocations differ", wrong, len(want))
	}
}

// physicals leaves the frames of the machine, and of those the innermost.
func physicals(list []site) []site {
	out := make([]site, len(list))
	for i, s := range list {
		out[i] = s.physical()
		out[i].calls = out[i].calls[:min(len(out[i].calls), heaptrackMost)]
		if out[i].calls[0].function == "allocate_dtv" {
			out[i].size = 0 // grows with the libraries, of which heaptrack is one
		}
	}
	return inMain(out, heaptrackMost)
}

// rust compiles a program with rustc.
func rust(t *testing.T, source string) string {
	t.Helper()
	kerneltest.Require(t)
	rustc, err := exec.LookPath("rustc")
	if err != nil {
		if kerneltest.Repeat(10) == 1 {
			t.Skip("the emulated machine has no Rust; what it makes is the same on every kernel")
		}
		kerneltest.Skip(t, "rustc is not installed")
	}
	exe := filepath.Join(t.TempDir(), "rust")
	cmd := exec.Command(rustc, "-g", "-C", "opt-level=2", "-C", "force-frame-pointers=no", "-o", exe, source)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rustc %s: %v\n%s", source, err, out)
	}
	return exe
}

// TestStackOracles: the stacks of all allocations, one after the other, are those that
// heaptrack takes inside the program and gdb at a breakpoint, the latter with inlined
// functions and lines.
func TestStackOracles(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func() string
		args  []string
	}{
		{"C", func() string { return buildStack(t, "stack.c") }, []string{"plain"}},
		{"C++", func() string { return buildStack(t, "stack.cpp", "-std=c++17", "-lstdc++") }, nil},
		{"Rust", func() string { return rust(t, stackPrograms+"stack.rs") }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			argv := append([]string{c.build()}, c.args...)
			said, path := recordStacks(t, nil, argv...)
			checkStacks(t, said, path)
			wholeStacks(t, path)
			mine := captured(t, path)
			t.Run("heaptrack", func(t *testing.T) {
				sameSites(t, "heaptrack", physicals(mine), physicals(heaptracked(t, argv...)))
			})
			t.Run("gdb", func(t *testing.T) {
				sameSites(t, "gdb", inMain(mine, anyFrames), inMain(debugged(t, argv...), anyFrames))
			})
		})
	}
}
