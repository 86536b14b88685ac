package capture_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// recordGenerated records a program that writes code into memory, tells of it as
// virtual machines tell perf, and allocates from there.
func recordGenerated(t *testing.T, flags ...string) *format.Reader {
	t.Helper()
	res := record(t, build(t, "jit.c", append(flags, "-fno-omit-frame-pointer")...)).complete()
	if err := os.Remove(res.value["map"]); err != nil {
		t.Error(err)
	}
	r, err := format.Open(res.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestGeneratedCode(t *testing.T) {
	kerneltest.Require(t)
	r := recordGenerated(t)
	named := 0
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc)}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.V[format.AllocSize] != 12345 {
			continue
		}
		stack := r.Stack(format.StackID(e.V[format.AllocStack]), nil)
		if len(stack) < 2 || stack[0].Function != "Interpreter:generated" || stack[1].Function != "main" {
			t.Fatalf("stack %+v", stack)
		}
		if m := r.Module(stack[0].Module).Path; filepath.Dir(m) != "/tmp" || filepath.Ext(m) != ".map" {
			t.Errorf("module %s", m)
		}
		named++
	}
	if named != 10 {
		t.Errorf("%d allocations by generated code, want 10", named)
	}
}

// TestGeneratedCodeOffline: it is the same when stacks are unwound later.
func TestGeneratedCodeOffline(t *testing.T) {
	kerneltest.Require(t)
	o, notes := options(t)
	o.Unwind = capture.UnwindOffline
	res := recordWith(t, o, notes, build(t, "jit.c", "-fno-omit-frame-pointer"))
	path := finishStacks(t, res.path)
	if err := os.Remove(res.value["map"]); err != nil {
		t.Error(err)
	}
	generated := takenStacks(t, path)[12345]
	for _, s := range generated {
		if len(s.functions) < 2 || s.functions[0] != "Interpreter:generated" || s.functions[1] != "main" {
			t.Errorf("stack %q", s.functions)
		}
	}
	if len(generated) != 10 {
		t.Errorf("%d allocations by generated code, want 10", len(generated))
	}
}

// TestPerfMapOwner takes nobody else's word for what a process's code is.
func TestPerfMapOwner(t *testing.T) {
	kerneltest.Require(t)
	if os.Geteuid() != 0 {
		kerneltest.Skip(t, "only root can give a file away")
	}
	r := recordGenerated(t, "-DGIVEN_AWAY")
	for i := range r.TableSizes().Symbols + r.TableSizes().Frames {
		if f := r.Frame(format.FrameID(i + 1)); f.Function == "Interpreter:generated" {
			t.Fatalf("named by a file of another user: %+v", f)
		}
	}
}
