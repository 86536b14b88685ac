package unwind

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestJIT passes code that no file holds by its frame pointer, if it has one.
func TestJIT(t *testing.T) {
	prog := build(t, "gcc", "jit.c", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls")
	for _, c := range []struct {
		args string
		want []string
		end  End
	}{
		{"", []string{"?", "leaf", "?", "main"}, Complete},
		{"bare", []string{"?", "leaf", "?"}, NoRule},
	} {
		r := recordStops(t, prog, 0, "break leaf", "set args "+c.args, "run", "tbreak malloc", "continue")
		u := New(Options{})
		space := r.space(t, u)
		frames, end := u.Unwind(space, r.Stops[0].snapshot(), nil)
		names := progNames(t, prog, prog, space, frames)
		if end != c.end || !slices.Equal(names[:min(len(names), len(c.want))], c.want) || end == NoRule && len(names) != len(c.want) {
			t.Errorf("%q: ended: %v, after %v; want %v, after %v", c.args, end, names, c.end, c.want)
		}
	}
}

// TestCgo comes from C, by call frame information, to where the runtime left the
// goroutine's stack, and says so.
func TestCgo(t *testing.T) {
	prog := filepath.Join(t.TempDir(), "prog")
	cmd := exec.Command(tool(t, "go"), "build", "-o", prog, "callc.go")
	cmd.Dir, cmd.Env = "testdata", append(os.Environ(), "CGO_ENABLED=1", "CC="+tool(t, "gcc"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	r := recordStops(t, prog, 0, "handle SIGURG nostop noprint pass", "break grab", "run", "tbreak malloc", "continue")
	u := New(Options{})
	space := r.space(t, u)
	frames, end := u.Unwind(space, r.Stops[0].snapshot(), nil)
	names := progNames(t, prog, prog, space, frames)
	if end != Switched {
		t.Errorf("ended: %v, after %v", end, names)
	}
	wantNames(t, names, "grab _Cfunc_grab runtime.asmcgocall")
}

// TestOtherStack interrupts a thread for a handler that has a stack of its own:
// what was interrupted is known, who called it is not in the snapshot.
func TestOtherStack(t *testing.T) {
	prog := build(t, "gcc", "signals.c", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread")
	r := recordStops(t, prog, 0, "set args x", "break leaf", "run", "tbreak malloc", "continue")
	u := New(Options{})
	s := &r.Stops[0]
	frames, end := u.Unwind(r.space(t, u), s.snapshot(), nil)
	got, want := pcs(frames), s.pcs()
	if end != Switched || len(got) < 5 || !slices.Equal(got, want[:len(got)]) {
		t.Errorf("ended: %v\n got %v\nwant %v", end, got, want)
	}
	wantNames(t, s.names()[:len(got)], "malloc leaf second restore_rt kill")
}
