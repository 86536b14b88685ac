package capture_test

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/capture/symbolize"
	"github.com/tcap-dev/tcap/format"
)

const stackPrograms = "../testdata/programs/stack/"

// noFramePointers is how distributions build; calls stay calls.
var noFramePointers = []string{"-O2", "-g", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-ipa-icf", "-fno-builtin"}

// A told stack is what a program says of the allocation of a size: functions,
// innermost first, or how often the one before calls itself; after a * nothing is said.
type toldStack struct {
	size      uint64
	functions []string
	part      bool
}

func toldStacks(t *testing.T, said string) []toldStack {
	t.Helper()
	var out []toldStack
	for line := range strings.Lines(said) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "stack" {
			continue
		}
		size, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			t.Fatalf("the program says %q", line)
		}
		told := toldStack{size: size}
		for _, name := range f[2:] {
			if n, err := strconv.Atoi(name); err == nil {
				last := told.functions[len(told.functions)-1]
				told.functions = append(told.functions, slices.Repeat([]string{last}, n)...)
			} else if name == "*" {
				told.part = true
			} else {
				told.functions = append(told.functions, plain(name))
			}
		}
		out = append(out, told)
	}
	return out
}

// A taken stack is what a capture has of an allocation.
type takenStack struct {
	functions []string
	end       format.StackEnd
}

// takenStacks are the stacks of allocations by their size.
func takenStacks(t *testing.T, path string) map[uint64][]takenStack {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := map[uint64][]takenStack{}
	for e, err := range r.Events(format.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != format.KindAlloc {
			continue
		}
		id := format.StackID(e.V[format.AllocStack])
		s := takenStack{end: r.StackEnd(id)}
		for _, f := range r.Stack(id, nil) {
			s.functions = append(s.functions, plain(f.Function))
		}
		out[e.V[format.AllocSize]] = append(out[e.V[format.AllocSize]], s)
	}
	return out
}

// matches reports whether a stack begins as it was told, and is complete.
func (told toldStack) matches(s takenStack) bool {
	if len(s.functions) < len(told.functions) || !slices.Equal(s.functions[:len(told.functions)], told.functions) {
		return false
	}
	return told.part || s.end == format.EndComplete
}

// checkStacks compares what a program says of its stacks with a capture.
func checkStacks(t *testing.T, said, path string) {
	t.Helper()
	told, taken := toldStacks(t, said), takenStacks(t, path)
	if len(told) == 0 {
		t.Fatalf("the program says nothing: %q", said)
	}
	for _, want := range told {
		got := taken[want.size]
		if len(got) != 1 {
			t.Errorf("%d allocations of %d bytes, want 1", len(got), want.size)
			continue
		}
		if !want.matches(got[0]) {
			t.Errorf("allocation of %d bytes:\n got %s (%v)\nwant %s", want.size,
				strings.Join(got[0].functions, " "), got[0].end, strings.Join(want.functions, " "))
		}
	}
}

// recordStacks runs a program under a recording and returns what it said.
func recordStacks(t *testing.T, change func(*capture.Options), argv ...string) (said, path string) {
	t.Helper()
	o, notes := options(t)
	if change != nil {
		change(&o)
	}
	r := recordWith(t, o, notes, argv...)
	return r.out, r.path
}

func buildStack(t *testing.T, name string, flags ...string) string {
	t.Helper()
	kerneltest.Require(t)
	return kerneltest.Build(t, stackPrograms+name, append(slices.Clone(noFramePointers), flags...)...)
}

// TestStackKinds: stacks without frame pointers are complete and right: of
// functions with frames of all forms, recursion deeper than the 127 frames that
// the kernel's own walk has, threads, signal handlers and coroutines.
func TestStackKinds(t *testing.T) {
	for _, c := range some([]struct {
		name  string
		flags []string
	}{{"shared", nil}, {"static", []string{"-static"}}, {"no PIE", []string{"-no-pie"}}}) {
		t.Run(c.name, func(t *testing.T) {
			said, path := recordStacks(t, nil, buildStack(t, "stack.c", c.flags...), "kinds")
			checkStacks(t, said, path)
		})
	}
}

// TestStackChildren: a forked child's stacks are as right as its parent's, and so
// are those after its exec, whose code is elsewhere.
func TestStackChildren(t *testing.T) {
	said, path := recordStacks(t, nil, buildStack(t, "stack.c"), "children", "1000")
	checkStacks(t, said, path)
}

// TestStackLibraries: where one library was, another is loaded, laid out alike. No
// stack of the one may be taken for the other's.
func TestStackLibraries(t *testing.T) {
	// In one directory, so that they are found after they were unmapped.
	dir := t.TempDir()
	argv := []string{dir + "/stack", "libraries", "1000", dir + "/alpha", dir + "/gamma"}
	install(t, map[string]string{
		argv[0]: buildStack(t, "stack.c"),
		argv[3]: buildStack(t, "lib.c", "-shared", "-fPIC", "-DNAME=alpha"),
		argv[4]: buildStack(t, "lib.c", "-shared", "-fPIC", "-DNAME=gamma"),
	})
	said, path := recordStacks(t, nil, argv...)
	if strings.Contains(said, "moved=1") {
		t.Error("the libraries were not loaded at the same place: this tests nothing")
	}
	checkStacks(t, said, path)
}

// TestStackOffline: stacks that are kept and unwound later are as right.
func TestStackOffline(t *testing.T) {
	offline := func(o *capture.Options) { o.Unwind = capture.UnwindOffline }
	for _, command := range [][]string{{"kinds"}, {"children", "100"}} {
		said, path := recordStacks(t, offline, append([]string{buildStack(t, "stack.c")}, command...)...)
		for _, s := range slices.Concat(slices.Collect(maps.Values(takenStacks(t, path)))...) {
			if slices.Contains(s.functions, "main") && s.functions[0] != "main" || s.end != format.EndWaiting {
				t.Fatalf("unwound while recording: %v %v", s.functions, s.end)
			}
		}
		checkStacks(t, said, finishStacks(t, path))
	}
}

// finishStacks does what is left to do of a capture, and returns the new one.
func finishStacks(t *testing.T, path string) string {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a, err := r.Amend()
	if err != nil {
		t.Fatal(err)
	}
	stacks, err := symbolize.Unwind(t.Context(), r, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	if stacks.Kept || stacks.Stacks == 0 || stacks.Better != stacks.Stacks {
		t.Errorf("unwound: %+v", stacks)
	}
	if _, err := symbolize.Run(t.Context(), r, a, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path + ".done")
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.WriteTo(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
