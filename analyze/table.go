package analyze

import (
	"math"
	"math/bits"
)

// A block is a live heap block.
type block struct {
	size  uint64
	birth int64  // ns, the return of the call that made it
	ord   uint64 // place of the birth in the file
	mark  uint64 // what the matcher's user wants to know again at the death
	stack uint32
	task  uint32
}

// A table finds the live blocks of one address space by address. It is in two
// parts: the addresses, seven in a line of the cache, which is all that a search
// reads; and what is known of each block, which is written at its birth and read
// again by who wants to know. So a birth and a death wait for one line each, one that
// can be touched in advance (warm).
//
// A block is in the line that its hash says, or when that is full in the next one
// with room. Each line counts the blocks that passed it by: a search goes on only
// where there are some, and a death leaves nothing behind. A live block costs 42 to
// 63 bytes.
type table struct {
	batches *batches
	lines   []line
	passed  []uint32 // by line: blocks that belong in it or before it and are behind it
	slots   []slot   // lineSlots for each line
	marks   []uint64 // the same
	used    int
	marked  bool                 // there are marks
	wide    map[uint64]wideBlock // by address: what slots have no room for
}

const (
	lineSlots = 7
	minLines  = 16
)

// A line has the addresses of up to seven blocks.
type line struct {
	tags  uint64 // a byte of the hash of each, 0 for none; above them passedBit
	addrs [lineSlots]uint64
}

const (
	everyByte = 0x01_0101_0101_0101 // of the tags
	tagBit    = 0x80                // every tag has it
	passedBit = 1 << 56             // in a line's tags: blocks have passed it
)

// empty has tagBit in the byte of each place without a block.
func (l *line) empty() uint64 { return ^l.tags & (everyByte * tagBit) }

// tagOf is the byte by which a line tells most of its blocks apart.
func tagOf(hash uint32) uint64 { return uint64(hash)&0x7f | tagBit }

// A place is a slot of a table: the line's number, and in the low three bits the
// place in that.
type place uint32

func (p place) line() int { return int(p >> 3) }
func (p place) slot() int { return int(p>>3)*lineSlots + int(p&7) }

// A slot is a live block.
type slot struct {
	batch uint32 // the block of the file in which it was born
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

// hashAddr spreads addresses, whose low bits are mostly zero; the multipliers
// are those of wyhash.
func hashAddr(addr uint64) uint32 {
	h := (addr ^ addr>>32) * 0xa0761d6478bd642f
	h ^= h >> 32
	h *= 0xe7037ed1a0b428db
	return uint32(h ^ h>>29)
}

// home is the line in which the search for a hash begins.
func (t *table) home(hash uint32) int { return int(uint64(hash) * uint64(len(t.lines)) >> 32) }

// next is the line behind a line.
func (t *table) next(at int) int {
	if at++; at < len(t.lines) {
		return at
	}
	return 0
}

// touch reads the line in which the search for a hash begins.
func (t *table) touch(hash uint32) uint64 {
	if len(t.lines) == 0 {
		return 0
	}
	return t.lines[t.home(hash)].tags
}

// touchSlot reads the slot that a birth will probably get.
func (t *table) touchSlot(hash uint32) uint32 {
	if len(t.lines) == 0 {
		return 0
	}
	n := t.home(hash)
	return t.slots[n*lineSlots+min(bits.TrailingZeros64(t.lines[n].empty())/8, lineSlots-1)].task
}

// find returns the place of the block at an address, whose hash is given.
func (t *table) find(addr uint64, hash uint32) (at place, ok bool) {
	n := t.home(hash)
	for range t.lines { // a hostile capture can have blocks pass every line
		l := &t.lines[n]
		differ := l.tags ^ tagOf(hash)*everyByte
		for same := (differ - everyByte) &^ differ & (everyByte * tagBit); same != 0; same &= same - 1 {
			if i := bits.TrailingZeros64(same) / 8; l.addrs[i] == addr {
				return place(n<<3 | i), true
			}
		}
		if l.tags < passedBit {
			break
		}
		n = t.next(n)
	}
	return 0, false
}

// birth returns when the block at a place was born, ns.
func (t *table) birth(at place) int64 {
	s := &t.slots[at.slot()]
	if s.at&wideBit != 0 {
		return t.wide[t.addr(at)].birth
	}
	return (*t.batches)[s.batch].time + int64(s.after)
}

// addr returns the address of the block at a place.
func (t *table) addr(at place) uint64 { return t.lines[at.line()].addrs[at&7] }

// ord returns where in the file the block at a place was born.
func (t *table) ord(at place) uint64 {
	s := &t.slots[at.slot()]
	return (*t.batches)[s.batch].ord + uint64(s.at&^wideBit)
}

// block returns the block at a place where find found one.
func (t *table) block(at place) block {
	s := &t.slots[at.slot()]
	b := block{size: uint64(s.size), birth: t.birth(at), ord: t.ord(at), stack: s.stack, task: s.task}
	if s.at&wideBit != 0 {
		b.size = t.wide[t.addr(at)].size
	}
	if t.marked {
		b.mark = t.marks[at.slot()]
	}
	return b
}

// insert makes a place for an address where find found none. The slot there is to be
// filled in.
func (t *table) insert(addr uint64, hash uint32) place {
	if t.used*10 >= len(t.lines)*(lineSlots*7) {
		t.grow()
	}
	t.used++
	n := t.home(hash)
	for {
		l := &t.lines[n]
		if empty := l.empty(); empty != 0 {
			low := bits.TrailingZeros64(empty) - 7
			l.tags |= tagOf(hash) << (low & 63)
			l.addrs[low/8] = addr
			return place(n<<3 | low/8)
		}
		l.tags |= passedBit
		t.passed[n]++
		n = t.next(n)
	}
}

// pack makes the slot of a birth in a batch, and remembers what it has no room
// for.
func (t *table) pack(o *op, batch uint32) slot {
	s := slot{batch: batch, at: o.at, size: uint32(o.size), stack: o.stack, task: o.task}
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

// replace puts another block in the place of the one at its address.
func (t *table) replace(at place, o *op, batch uint32) {
	delete(t.wide, o.addr)
	t.slots[at.slot()] = t.pack(o, batch)
}

// remove takes out the block at a place, whose address has the hash.
func (t *table) remove(at place, hash uint32) {
	l := &t.lines[at.line()]
	if len(t.wide) > 0 {
		delete(t.wide, l.addrs[at&7])
	}
	t.used--
	l.tags &^= 0xff << (at & 7 * 8)
	for n := t.home(hash); n != at.line(); n = t.next(n) {
		if t.passed[n]--; t.passed[n] == 0 {
			t.lines[n].tags &^= passedBit
		}
	}
}

// grow makes more lines: twice as many of few, half as many again of many, since what
// is made has to be touched.
func (t *table) grow() {
	old := *t
	n := max(2*len(old.lines), minLines)
	if n > 4096 {
		n = n / 4 * 3
	}
	t.lines, t.passed, t.slots, t.used = make([]line, n), make([]uint32, n), make([]slot, n*lineSlots), 0
	if t.marked {
		t.marks = make([]uint64, n*lineSlots)
	}
	for from := range old.places {
		addr := old.addr(from)
		to := t.insert(addr, hashAddr(addr))
		t.slots[to.slot()] = old.slots[from.slot()]
		if t.marked {
			t.marks[to.slot()] = old.marks[from.slot()]
		}
	}
}

// places yields the places of all blocks.
func (t *table) places(yield func(place) bool) {
	for n := range t.lines {
		for used := t.lines[n].tags & (everyByte * tagBit); used != 0; used &= used - 1 {
			if !yield(place(n<<3 | bits.TrailingZeros64(used)/8)) {
				return
			}
		}
	}
}

// each calls f with every live block and its address, in no particular order.
// The block is valid during the call.
func (t *table) each(f func(addr uint64, b *block)) {
	for at := range t.places {
		b := t.block(at)
		f(t.addr(at), &b)
	}
}

// clear removes all blocks.
func (t *table) clear() {
	t.lines, t.passed, t.slots, t.marks, t.wide, t.used = nil, nil, nil, nil, nil, 0
}
