package capture_test

import (
	"testing"

	"github.com/tcap-dev/tcap/analyze"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// libcs are the C libraries that heap.c is built with.
var libcs = []struct {
	name  string
	flags []string
	glibc bool
}{
	{"glibc", []string{"-ldl"}, true},
	{"glibc-static", []string{"-static", "-DNO_DLVSYM=1"}, true},
	{"musl", []string{musl}, false},
	{"musl-static", []string{musl, "-static"}, false},
}

// TestHeapExact compares every event with what the program did, for each C
// library: pitfalls 1 to 8.
func TestHeapExact(t *testing.T) {
	for _, libc := range some(libcs) {
		t.Run(libc.name, func(t *testing.T) {
			r := record(t, build(t, "heap.c", libc.flags...), "basics", "100000").complete()
			r.exact()
			// That the program met the cases which it is meant to.
			want := map[string]string{
				"moved": "1", "failed": "1", // realloc
				"align3": "22", "align8": "0", "align16": "0", "align4096": "0", "huge": "12", // posix_memalign
				"calloc": "1", "calloc_zero": "1", "malloc": "1", // overflows
			}
			if libc.glibc {
				want["in_place"], want["overflows"], want["zero"] = "1", "2", "freed"
			}
			if libc.name == "glibc" {
				want["cfree"] = "1"
			}
			for k, v := range want {
				if r.value[k] != v {
					t.Errorf("%s=%s, want %s", k, r.value[k], v)
				}
			}
		})
	}
}

// TestHeapLarge: a block beyond the mmap threshold is one block, and its
// mapping belongs to the allocator (pitfall 2).
func TestHeapLarge(t *testing.T) {
	r := record(t, build(t, "heap.c", "-ldl"), "large").complete()
	r.exact()
	maps := 0
	for _, h := range r.marked(format.KindMap) {
		maps++
		if h.V[format.MapNested] != 1 {
			t.Errorf("%s is not told to be the allocator's", h.fact(nil))
		}
	}
	if maps != 2 {
		t.Errorf("%d mappings for 2 large blocks", maps)
	}
	l := r.leaks("--mmap")
	if l.Total != (analyze.Amount{Bytes: 200 << 10, Blocks: 1}) {
		t.Errorf("leaks %+v, want one block of 200 KiB", l.Total)
	}
	for _, row := range l.Mmap.Rows {
		if row.Bytes >= 200<<10 && row.Bytes < 210<<10 {
			t.Errorf("the block is a region as well: %+v", row)
		}
	}
}

// TestHeapDoubleFree: a second free is told apart and takes nothing else
// away; an abort is a death like any other (pitfall 7).
func TestHeapDoubleFree(t *testing.T) {
	exe := build(t, "heap.c", "-ldl")
	t.Run("survived", func(t *testing.T) {
		r := record(t, exe, "twice")
		r.exact()
		l := r.leaks()
		if l.DoubleFrees != 1 || l.UnknownFrees != 0 || l.Total.Blocks != 0 {
			t.Errorf("double frees %d, unknown %d, leaks %+v; want 1, 0, none", l.DoubleFrees, l.UnknownFrees, l.Total)
		}
	})
	t.Run("aborted", func(t *testing.T) {
		r := record(t, exe, "twice_abort")
		if r.sum.ExitStatus != 128+6 {
			t.Fatalf("exit status %d, want an abort", r.sum.ExitStatus)
		}
		if l := r.leaks(); l.DoubleFrees != 1 {
			t.Errorf("%d double frees, want 1", l.DoubleFrees)
		}
		exits := r.events(format.KindExit)
		if len(exits) != 1 || exits[0].V[format.ExitCode]&0x7f != 6 {
			t.Errorf("exits %+v, want one by signal 6", exits)
		}
	})
}

// TestHeapBeforeAttach: blocks from before the recording are no leaks, and
// their frees are counted apart; a realloc of one is a birth (pitfall 7).
func TestHeapBeforeAttach(t *testing.T) {
	p := start(t, build(t, "heap.c", "-ldl"), "attached")
	p.await("ready")
	rec := attachTo(t, p)
	p.tell('g')
	p.wait()
	r := rec.ended(p.all.String()).complete()
	r.exact()
	l := r.leaks()
	if l.UnknownFrees != 3 || l.DoubleFrees != 0 || l.Total != (analyze.Amount{Bytes: 9055, Blocks: 2}) {
		t.Errorf("unknown frees %d, double %d, leaks %+v; want 3, 0 and 9055 bytes in 2 blocks", l.UnknownFrees, l.DoubleFrees, l.Total)
	}
	if r.sum.Reason != "last target exited" {
		t.Errorf("the recording ended because %q", r.sum.Reason)
	}
}

// TestHeapHandoff: blocks go from thread to thread and their addresses come
// back at once. The record order must be a legal one (pitfalls 9 and 24).
func TestHeapHandoff(t *testing.T) {
	for _, libc := range some(libcs) {
		t.Run(libc.name, func(t *testing.T) {
			n := kerneltest.Repeat(20_000)
			r := record(t, build(t, "heap.c", libc.flags...), "handoff", itoa(n)).complete()
			if l := r.leaked(); l.Allocations.Blocks < uint64(n) {
				t.Errorf("%d allocations, the program made %d", l.Allocations.Blocks, n)
			}
			if seen := r.legal(); seen.handed < n*9/10 || seen.reused < n/10 {
				t.Errorf("of %d blocks, %d were freed by the other thread and %d are where one was before: the order was not put to the test", n, seen.handed, seen.reused)
			}
		})
	}
}
