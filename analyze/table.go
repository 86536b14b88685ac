package analyze

import "math"

// A block is a live heap block.
type block struct {
	size  uint64
	birth int64  // ns, the return of the call that made it
	ord   uint64 // place of the birth in the file
	mark  uint64 // what the matcher's user wants to know again at the death
	stack uint32
	task  uint32
}

// A table finds the live blocks of one address space by address: open
// addressing with linear probing. All of a block is in its slot, of which a line
// of the cache holds two, so that a birth and a death touch one line each, and
// one that can be touched in advance (warm). A live block costs 43 to 85 bytes.
type table struct {
	batches *batches
	slots   []slot // a power of two of them
	marks   []uint64
	used    int
	marked  bool                 // there are marks
	wide    map[uint64]wideBlock // by address: what slots have no room for
}

// A slot is a block that is live at addr.
type slot struct {
	addr  uint64
	batch uint32 // the block of the file in which it was born; 0 is an empty slot
	at    uint32 // place of the birth in that; with wideBit, size and birth are elsewhere
	after uint32 // birth, ns after the batch's time
	size  uint32
	stack uint32
	task  uint32
}

// A wideBlock is of 4 GiB or more, or was born seconds away from the others of
// its block of the file.
type wideBlock struct {
	size  uint64
	birth int64
}

// wideBit marks operations and slots whose numbers take more than 32 bits.
const wideBit = 1 << 31

// batches are the blocks of the file whose operations were applied, by number;
// there is no number 0.
type batches []batchStart

// A batchStart is where and when a block of the file begins.
type batchStart struct {
	ord  uint64
	time int64 // ns
}

const minSlots = 64

// hashAddr spreads addresses, whose low bits are mostly zero; the multipliers
// are those of wyhash.
func hashAddr(addr uint64) uint32 {
	h := (addr ^ addr>>32) * 0xa0761d6478bd642f
	h ^= h >> 32
	h *= 0xe7037ed1a0b428db
	return uint32(h ^ h>>29)
}

// lineOf is where the search for a hash begins: the first of the two slots of a
// line, so that most searches and removals stay in it.
func lineOf(hash uint32) uint32 { return hash &^ 1 }

// home is the slot at which the search for a block begins, nil when there are
// none.
func (t *table) home(hash uint32) *slot {
	if len(t.slots) == 0 {
		return nil
	}
	return &t.slots[lineOf(hash)&uint32(len(t.slots)-1)]
}

// find returns the place of the block at an address, whose hash is given. When
// there is none, ok is false and the place is where it would go.
func (t *table) find(addr uint64, hash uint32) (at uint32, ok bool) {
	slots := t.slots
	if len(slots) == 0 {
		return 0, false
	}
	mask := uint32(len(slots) - 1)
	for at = lineOf(hash) & mask; ; at = (at + 1) & mask {
		switch s := &slots[at]; {
		case s.batch == 0:
			return at, false
		case s.addr == addr:
			return at, true
		}
	}
}

// birth returns when the block at a place was born, ns.
func (t *table) birth(at uint32) int64 {
	s := &t.slots[at]
	if s.at&wideBit != 0 {
		return t.wide[s.addr].birth
	}
	return (*t.batches)[s.batch].time + int64(s.after)
}

// ord returns where in the file the block at a place was born.
func (t *table) ord(at uint32) uint64 {
	s := &t.slots[at]
	return (*t.batches)[s.batch].ord + uint64(s.at&^wideBit)
}

// block returns the block at a place where find found one.
func (t *table) block(at uint32) block {
	s := &t.slots[at]
	b := block{size: uint64(s.size), birth: t.birth(at), ord: t.ord(at), stack: s.stack, task: s.task}
	if s.at&wideBit != 0 {
		b.size = t.wide[s.addr].size
	}
	if t.marked {
		b.mark = t.marks[at]
	}
	return b
}

// insert puts a block at the empty place that find returned for it, and returns
// where it is.
func (t *table) insert(at, hash uint32, s slot) uint32 {
	if t.used*4 >= len(t.slots)*3 {
		t.grow()
		at, _ = t.find(s.addr, hash)
	}
	t.used++
	t.slots[at] = s
	return at
}

// pack makes the slot of a birth in a batch, and remembers what it has no room
// for.
func (t *table) pack(o *op, batch uint32) slot {
	s := slot{addr: o.addr, batch: batch, at: o.at, size: uint32(o.size), stack: o.stack, task: o.task}
	after := uint64(o.time - (*t.batches)[batch].time)
	s.after = uint32(after)
	if after > math.MaxUint32 || o.size > math.MaxUint32 {
		s.at |= wideBit
		if t.wide == nil {
			t.wide = map[uint64]wideBlock{}
		}
		t.wide[o.addr] = wideBlock{o.size, o.time}
	}
	return s
}

// replace puts another block in the place of one.
func (t *table) replace(at uint32, o *op, batch uint32) {
	t.forget(at)
	t.slots[at] = t.pack(o, batch)
}

// forget removes what is kept beside the slot.
func (t *table) forget(at uint32) {
	if s := &t.slots[at]; s.at&wideBit != 0 {
		delete(t.wide, s.addr)
	}
}

// remove takes out the block at a place and moves later ones of its run back:
// there are no tombstones, so the table stays as fast as it was.
func (t *table) remove(at uint32) {
	t.forget(at)
	slots := t.slots
	t.used--
	mask := uint32(len(slots) - 1)
	hole := at
	for at := (at + 1) & mask; slots[at].batch != 0; at = (at + 1) & mask {
		home := lineOf(hashAddr(slots[at].addr)) & mask
		if (at-home)&mask >= (at-hole)&mask {
			slots[hole] = slots[at]
			if t.marked {
				t.marks[hole] = t.marks[at]
			}
			hole = at
		}
	}
	slots[hole].batch = 0
}

func (t *table) grow() {
	old, marks := t.slots, t.marks
	t.slots = make([]slot, max(2*len(old), minSlots))
	if t.marked {
		t.marks = make([]uint64, len(t.slots))
	}
	mask := uint32(len(t.slots) - 1)
	for i := range old {
		s := &old[i]
		if s.batch == 0 {
			continue
		}
		at := lineOf(hashAddr(s.addr)) & mask
		for t.slots[at].batch != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = *s
		if t.marked {
			t.marks[at] = marks[i]
		}
	}
}

// each calls f with every live block and its address, in no particular order.
// The block is valid during the call.
func (t *table) each(f func(addr uint64, b *block)) {
	for i := range t.slots {
		if t.slots[i].batch != 0 {
			b := t.block(uint32(i))
			f(t.slots[i].addr, &b)
		}
	}
}

// clear removes all blocks.
func (t *table) clear() { t.slots, t.marks, t.wide, t.used = nil, nil, nil, 0 }
