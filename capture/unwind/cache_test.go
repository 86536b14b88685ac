package unwind

import (
	"slices"
	"testing"
)

// TestCache unwinds with room for no table beside the one in use: the frames are
// the same, only the work is done again.
func TestCache(t *testing.T) {
	prog := build(t, "gcc", "frames.c", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls")
	r := recordStops(t, prog, 0, "set args 9", "break leaf", "run", "tbreak malloc", "continue")
	large, small := New(Options{}), New(Options{MaxCacheBytes: 1})
	space, narrow := r.space(t, large), r.space(t, small)
	want, _ := large.Unwind(space, r.Stops[0].snapshot(), nil)
	for range 3 {
		got, end := small.Unwind(narrow, r.Stops[0].snapshot(), nil)
		if !slices.Equal(pcs(got), pcs(want)) || end != Complete {
			t.Errorf("ended: %v\n got %v\nwant %v", end, pcs(got), pcs(want))
		}
		if len(small.loaded) != 1 {
			t.Errorf("%d modules are kept, want 1", len(small.loaded))
		}
	}
	if len(large.loaded) < 2 {
		t.Errorf("%d modules are kept, want the program and the library", len(large.loaded))
	}
	for _, u := range []*Unwinder{large, small} {
		var sum int64
		for _, m := range u.loaded {
			sum += m.bytes
		}
		if sum != u.bytes || sum == 0 {
			t.Errorf("accounted for %d bytes, %d are kept", u.bytes, sum)
		}
	}
	// A module forgets single places, not more, when there are too many.
	m := large.loaded[0]
	for pc := uint64(0); pc < 3*maxPlaces; pc++ {
		large.work = maxWork
		m.rule(pc<<40, false)
		if len(m.places) > maxPlaces {
			t.Fatalf("%d places", len(m.places))
		}
	}
	if got, end := large.Unwind(space, r.Stops[0].snapshot(), nil); !slices.Equal(pcs(got), pcs(want)) || end != Complete {
		t.Errorf("after many places: ended: %v, after %v", end, pcs(got))
	}
}

// TestLimit fills the room that the caller gives, and says that there is more.
func TestLimit(t *testing.T) {
	u := New(Options{})
	r, space := keptRecording(t, "arm64", u)
	snap := r.Stops[0].snapshotARM64()
	all, end := u.Unwind(space, snap, nil)
	if end != Complete {
		t.Fatalf("ended: %v", end)
	}
	for n := 1; n <= len(all); n++ {
		want := Limit
		if n == len(all) {
			want = Complete
		}
		if got, end := u.Unwind(space, snap, make([]Frame, 0, n)); end != want || !slices.Equal(pcs(got), pcs(all[:n])) {
			t.Errorf("room for %d: %d frames, ended: %v", n, len(got), end)
		}
	}
}
