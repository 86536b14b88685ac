package capture_test

import (
	"testing"

	"github.com/tcap-dev/tcap/analyze"
	"github.com/tcap-dev/tcap/format"
)

// TestHeapInside has things happen inside of allocator calls, by a program
// that is its own allocator: longjmp out of malloc, signal handlers, threads
// that end there, recursion beyond the kernel's 64 pending returns, tail calls
// (pitfalls 14, 15 and 18). What follows must be exact.
func TestHeapInside(t *testing.T) {
	record(t, build(t, "own.c"), "all").complete().exact()
}

// TestHeapReallocRace: while A's realloc runs, B is handed A's old address
// (pitfall 10). B's birth is told before A's realloc, and is B's block's.
func TestHeapReallocRace(t *testing.T) {
	r := record(t, build(t, "own.c"), "race").complete()
	r.exact()
	l := r.leaked()
	if len(l.Rows) != 1 || l.Rows[0].Stack[0].Function != "t_malloc" && l.Rows[0].Stack[0].Function != "taker" {
		t.Errorf("the leak is not the other thread's: %+v", l.Rows)
	}
}

// TestHeapKilledInside: SIGKILL inside of malloc (pitfall 14).
func TestHeapKilledInside(t *testing.T) {
	r := record(t, build(t, "own.c"), "killed")
	if r.sum.ExitStatus != 128+9 || r.sum.Lost != 0 {
		t.Fatalf("exit status %d, %d lost", r.sum.ExitStatus, r.sum.Lost)
	}
	r.exact()
	if l := r.leaked(); l.AtExit != l.Total {
		t.Errorf("at exit %+v of %+v", l.AtExit, l.Total)
	}
	exits := r.events(format.KindExit)
	if len(exits) != 1 || exits[0].V[format.ExitCode]&0x7f != 9 || exits[0].V[format.ExitSpaceGone] != 1 {
		t.Errorf("exits %+v, want one by signal 9", exits)
	}
}

// TestHeapBegunInside: a call that was running when the recording began has
// no entry; its block counts as one from before (pitfall 20).
func TestHeapBegunInside(t *testing.T) {
	p := start(t, build(t, "own.c"), "begun_inside")
	p.await("inside")
	rec := attachTo(t, p)
	p.tell('g')
	p.wait()
	r := rec.ended(p.all.String()).complete()
	r.exact()
	l := r.leaks()
	if l.UnknownFrees != 1 || l.Total != (analyze.Amount{Bytes: 40, Blocks: 1}) {
		t.Errorf("%d unknown frees, leaks %+v; want 1 and one block of 40 bytes", l.UnknownFrees, l.Total)
	}
}

// TestHeapEndedInside: a call that runs when the recording ends gave nothing
// yet (pitfall 20), and the program runs on when its probes are gone.
func TestHeapEndedInside(t *testing.T) {
	p := start(t, build(t, "own.c"), "ended_inside")
	p.await("ready")
	rec := attachTo(t, p)
	p.tell('g')
	p.await("inside")
	r := rec.stop(p.all.String())
	p.tell('g')
	p.wait()
	if p.cmd.ProcessState.ExitCode() != 0 {
		t.Fatalf("the program did not survive: %v", p.cmd.ProcessState)
	}
	r.exact()
	r.leaked()
}
