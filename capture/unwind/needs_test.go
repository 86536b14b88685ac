package unwind

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// checkNeeds fills a snapshot that was unwound just now with noise, moves it, and
// puts back only what the unwinding said that it needed: the frames must be the
// same.
func checkNeeds(t testing.TB, u *Unwinder, space Space, snap *Snapshot, frames []Frame, end End) {
	t.Helper()
	list, ok := u.Needs()
	if !ok {
		t.Fatal("what was needed cannot be told")
	}
	needs := slices.Clone(list)
	const moved = 0x7000_0000
	noise := rand.New(rand.NewPCG(1, uint64(len(frames))))
	other := *snap
	other.SP += moved
	other.FP = noise.Uint64()
	other.Stack = make([]byte, len(snap.Stack))
	for i := range other.Stack {
		other.Stack[i] = byte(noise.Uint32())
	}
	other.Regs = make([]uint64, len(snap.Regs))
	for i := range other.Regs {
		other.Regs[i] = noise.Uint64()
	}
	for _, n := range needs {
		v := n.Value
		if n.Relative {
			v += other.SP
		}
		switch {
		case n.Slot != 0:
			binary.LittleEndian.PutUint64(other.Stack[n.Slot-snap.SP:], v)
		case n.Reg == amd64RBP:
			other.FP = v
		default:
			other.Regs[slices.Index([]uint8{amd64RBX, 12, 13, 14, 15}, n.Reg)] = v
		}
	}
	got, gotEnd := u.Unwind(space, &other, nil)
	if !slices.Equal(got, frames) || gotEnd != end {
		t.Fatalf("with %d words of %d, and noise for the others:\n got %v (%v)\nwant %v (%v)",
			len(needs), len(snap.Stack)/8, pcs(got), gotEnd, pcs(frames), end)
	}
	again, _ := u.Needs()
	for i := range again {
		if again[i].Slot != 0 {
			again[i].Slot -= moved
		}
	}
	if !slices.Equal(again, needs) {
		t.Fatalf("the same stack needed other words:\n got %v\nwant %v", again, needs)
	}
}
