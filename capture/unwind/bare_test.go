package unwind

import (
	"strings"
	"testing"
)

// TestBare comes to assembly that nothing describes: what can be told is, and
// what cannot ends the stack, without an invented frame.
func TestBare(t *testing.T) {
	prog := build(t, "gcc", "bare.c", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls")
	for args, c := range []struct {
		want   string // all frames in the program
		method Method // of the frame behind the assembly
		end    End
	}{
		{"leaf plain main", Code, Complete},
		{"leaf framed main", FramePointer, Complete},
		{"leaf opaque", 0, NoRule},
		{"leaf liar", 0, NoRule},
	} {
		r := recordStops(t, prog, 0, "break leaf", "set args "+strings.Repeat("x ", args), "run", "tbreak malloc", "continue")
		u := New(Options{})
		space := r.space(t, u)
		frames, end := u.Unwind(space, r.Stops[0].snapshot(), nil)
		var names []string
		for i, name := range progNames(t, prog, prog, space, frames) {
			if name != "?" && name != "_start" {
				names = append(names, name)
			}
			if name == "main" && frames[i].Method != c.method {
				t.Errorf("%s: main was found by %d, want %d", c.want, frames[i].Method, c.method)
			}
		}
		if got := strings.Join(names, " "); got != c.want || end != c.end {
			t.Errorf("got %s, ended: %v; want %s, %v", got, end, c.want, c.end)
		}
	}
}

// TestReturns puts the trampoline of a uretprobe where some return addresses
// were, two of them, nested.
func TestReturns(t *testing.T) {
	prog := build(t, "gcc", "frames.c", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls")
	r := recordStops(t, prog, 0, "break leaf", "run", "tbreak malloc", "continue")
	u := New(Options{})
	space := r.space(t, u)
	want, _ := u.Unwind(space, r.Stops[0].snapshot(), nil)
	const trampoline = 0x7fffffffe000
	snap := r.Stops[0].snapshot()
	for _, frame := range []int{1, 2, 7} { // malloc, leaf and a recurse return there
		slot, seen := -1, 0
		for at := 0; at+8 <= len(snap.Stack); at += 8 {
			if memoryAt(snap, at) == want[frame].PC {
				if seen++; frame != 7 || seen == 3 {
					slot = at
					break
				}
			}
		}
		if slot < 0 {
			t.Fatalf("no slot of frame %d", frame)
		}
		snap.Returns = append(snap.Returns, Return{snap.SP + uint64(slot), want[frame].PC})
		putMemory(snap, slot, trampoline)
	}
	for _, known := range []uint64{trampoline, 0} {
		snap.Trampoline = known
		got, end := u.Unwind(space, snap, nil)
		if strings.Join(pcs(got), " ") != strings.Join(pcs(want), " ") || end != Complete {
			t.Errorf("trampoline %#x: ended: %v\n got %v\nwant %v", known, end, pcs(got), pcs(want))
		}
	}
	snap.Returns = snap.Returns[:1]
	if got, end := u.Unwind(space, snap, nil); end != NoCode || len(got) != 3 || got[2].PC != trampoline {
		t.Errorf("a trampoline that nobody told of: %v, ended: %v", pcs(got), end)
	}
	// The entry needs no rule, and leads to the same.
	snap = r.Stops[0].snapshot()
	snap.Point = Entry
	if got, end := u.Unwind(space, snap, nil); strings.Join(pcs(got), " ") != strings.Join(pcs(want), " ") || end != Complete {
		t.Errorf("from the entry: %v, ended: %v", pcs(got), end)
	}
	// A shorter snapshot gives a shorter stack, and says so.
	for size := 0; size < len(snap.Stack); size += 8 {
		short := *snap
		short.Stack = snap.Stack[:size]
		got, end := u.Unwind(space, &short, nil)
		if end == Complete && len(got) == len(want) {
			if size == 0 {
				t.Error("complete without a stack")
			}
			break
		}
		if end != SnapshotEnd || strings.Join(pcs(got), " ") != strings.Join(pcs(want[:len(got)]), " ") {
			t.Fatalf("%d bytes: %v, ended: %v", size, pcs(got), end)
		}
	}
}
