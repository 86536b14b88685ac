package analyze

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestTableChurn: a table in which blocks come and go for long is right, does not grow,
// and searches stay short, however full it is.
func TestTableChurn(t *testing.T) {
	for _, live := range []int{1, 40, 80, 350, 700, 8000} {
		t.Run(fmt.Sprint(live), func(t *testing.T) {
			churn(t, live, func(rng *rand.Rand) uint64 { return 0x5500_0000_0000 + rng.Uint64N(1<<24)<<4 })
		})
	}
}

func churn(t *testing.T, live int, fresh func(*rand.Rand) uint64) *table {
	rng := rand.New(rand.NewPCG(1, uint64(live)))
	batches := make(batches, 2)
	tab := &table{batches: &batches, marked: true}
	truth := map[uint64]uint64{} // address: mark
	var addrs []uint64
	find := func(op int, addr uint64) place {
		at, ok := tab.find(addr, hashAddr(addr))
		if !ok || tab.block(at).mark != truth[addr] || tab.addr(at) != addr {
			t.Fatalf("op %d: block at %#x: found %v", op, addr, ok)
		}
		return at
	}
	for op := range 40 * (live + 16) {
		if len(addrs) == live {
			i := rng.IntN(len(addrs))
			addr := addrs[i]
			tab.remove(find(op, addr), hashAddr(addr))
			delete(truth, addr)
			addrs[i] = addrs[len(addrs)-1]
			addrs = addrs[:len(addrs)-1]
		}
		addr := fresh(rng)
		_, ok := tab.find(addr, hashAddr(addr))
		if _, known := truth[addr]; ok != known {
			t.Fatalf("op %d: block at %#x: found %v, want %v", op, addr, ok, known)
		} else if known {
			continue
		}
		at := tab.insert(addr, hashAddr(addr))
		tab.slots[at.slot()] = slot{batch: 1}
		tab.marks[at.slot()], truth[addr] = uint64(op), uint64(op)
		addrs = append(addrs, addr)
	}
	if room := len(tab.lines) * lineSlots; tab.used != len(truth) || room > max(4*live, 2*minLines*lineSlots) {
		t.Fatalf("%d used of %d, want %d", tab.used, room, len(truth))
	}
	far, places := 0, 0
	for addr := range truth {
		at := find(-1, addr)
		for n := tab.home(hashAddr(addr)); n != at.line(); n = tab.next(n) {
			far++
		}
	}
	if far > live/2 {
		t.Errorf("blocks are %.2f lines from where their search begins", float64(far)/float64(live))
	}
	tab.each(func(addr uint64, b *block) {
		if places++; b.mark != truth[addr] {
			t.Errorf("block at %#x has mark %d, want %d", addr, b.mark, truth[addr])
		}
	})
	if places != len(truth) {
		t.Errorf("%d blocks in all, want %d", places, len(truth))
	}
	passed(t, tab, far)
	for addr := range truth {
		tab.remove(find(-1, addr), hashAddr(addr))
	}
	passed(t, tab, 0)
	return tab
}

// passed checks how often lines have been passed by, which their flags tell as well.
func passed(t *testing.T, tab *table, want int) {
	sum := 0
	for i, n := range tab.passed {
		sum += int(n)
		if flag := tab.lines[i].tags&passedBit != 0; flag != (n != 0) {
			t.Errorf("line %d was passed %d times, and says %v", i, n, flag)
		}
	}
	if sum != want {
		t.Errorf("lines were passed %d times, want %d", sum, want)
	}
}

// TestTableHostile: addresses chosen to share a line make searches long, not endless
// and not wrong, even when all lines have been passed.
func TestTableHostile(t *testing.T) {
	batches := make(batches, 2)
	tab := &table{batches: &batches}
	// Of each eight blocks that belong in a line the last goes to the next; then the
	// others die. At the end every line has been passed, and has room.
	homes := map[int][]uint64{}
	for addr := uint64(16); len(homes) < minLines || !full(homes); addr += 16 {
		if n := int(uint64(hashAddr(addr)) * minLines >> 32); len(homes[n]) <= lineSlots {
			homes[n] = append(homes[n], addr)
		}
	}
	insert := func(addr uint64) { tab.insert(addr, hashAddr(addr)) }
	remove := func(addr uint64) {
		at, ok := tab.find(addr, hashAddr(addr))
		if !ok {
			t.Fatalf("no block at %#x", addr)
		}
		tab.remove(at, hashAddr(addr))
	}
	for n := range minLines {
		// What went from the line before takes room here.
		here := homes[n][:lineSlots]
		if n > 0 {
			here = here[1:]
		}
		for _, addr := range here {
			insert(addr)
		}
		insert(homes[n][lineSlots])
		for _, addr := range here {
			remove(addr)
		}
	}
	if len(tab.lines) != minLines || tab.used != minLines {
		t.Fatalf("%d blocks in %d lines, want %d in as many", tab.used, len(tab.lines), minLines)
	}
	for i, n := range tab.passed {
		if n == 0 {
			t.Fatalf("line %d was not passed", i)
		}
	}
	for n := range minLines {
		if _, ok := tab.find(homes[n][0], hashAddr(homes[n][0])); ok {
			t.Fatalf("there is a block at %#x", homes[n][0])
		}
		remove(homes[n][lineSlots])
	}
	passed(t, tab, 0)
}

func full(homes map[int][]uint64) bool {
	for _, h := range homes {
		if len(h) <= lineSlots {
			return false
		}
	}
	return true
}
