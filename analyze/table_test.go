package analyze

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestTableChurn: a table in which blocks come and go for long is right, and searches
// stay short, however full it is.
func TestTableChurn(t *testing.T) {
	for _, slots := range []int{64, 128, 512, 8192} {
		for _, eighths := range []int{4, 5, 6} {
			t.Run(fmt.Sprintf("%d of 8 of %d", eighths, slots), func(t *testing.T) { churn(t, slots, slots*eighths/8) })
		}
	}
}

func churn(t *testing.T, slots, live int) {
	rng := rand.New(rand.NewPCG(uint64(slots), uint64(live)))
	batches := make(batches, 2)
	tab := table{batches: &batches, marked: true}
	truth := map[uint64]uint64{} // address: mark
	var addrs []uint64
	fresh := func() uint64 { return 0x5500_0000_0000 + rng.Uint64N(1<<24)<<4 }
	for op := range 40 * slots {
		if len(addrs) == live {
			i := rng.IntN(len(addrs))
			addr := addrs[i]
			at, ok := tab.find(addr, hashAddr(addr))
			if !ok || tab.block(at).mark != truth[addr] {
				t.Fatalf("op %d: block at %#x: found %v", op, addr, ok)
			}
			tab.remove(at)
			delete(truth, addr)
			addrs[i] = addrs[len(addrs)-1]
			addrs = addrs[:len(addrs)-1]
		}
		addr := fresh()
		at, ok := tab.find(addr, hashAddr(addr))
		if _, known := truth[addr]; ok != known {
			t.Fatalf("op %d: block at %#x: found %v, want %v", op, addr, ok, known)
		} else if known {
			continue
		}
		at = tab.insert(at, hashAddr(addr), slot{addr: addr, batch: 1})
		tab.marks[at], truth[addr] = uint64(op), uint64(op)
		addrs = append(addrs, addr)
	}
	if len(tab.slots) != slots || tab.used != len(truth) {
		t.Fatalf("%d slots, %d used, want %d and %d", len(tab.slots), tab.used, slots, len(truth))
	}
	far := 0
	for addr := range truth {
		at, ok := tab.find(addr, hashAddr(addr))
		if !ok || tab.block(at).mark != truth[addr] {
			t.Fatalf("block at %#x: found %v", addr, ok)
		}
		far += int((at - lineOf(hashAddr(addr))) & uint32(slots-1))
	}
	if far > 4*live {
		t.Errorf("blocks are %.1f slots from where their search begins", float64(far)/float64(live))
	}
}
