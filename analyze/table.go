package analyze

// A block is a live heap block.
type block struct {
	size  uint64
	birth int64  // ns, the return of the call that made it
	ord   uint64 // place of the birth in the file
	mark  uint64 // what the matcher's user wants to know again at the death
	stack uint32
	task  uint32
}

// pool keeps the blocks of all tables in chunks that never move, so that rows
// are 32-bit numbers and the garbage collector has no pointers to follow.
type pool struct {
	chunks [][]block
	free   []uint32 // rows that died
	next   uint32   // first row never used
}

const (
	chunkBits = 14 // rows per chunk: 16384, 640 KiB
	chunkMask = 1<<chunkBits - 1
)

func (p *pool) at(row uint32) *block { return &p.chunks[row>>chunkBits][row&chunkMask] }

// take returns a row for a new block. Its content is that of an older one.
func (p *pool) take() uint32 {
	if n := len(p.free); n > 0 {
		row := p.free[n-1]
		p.free = p.free[:n-1]
		return row
	}
	if int(p.next>>chunkBits) == len(p.chunks) {
		p.chunks = append(p.chunks, make([]block, 1<<chunkBits))
	}
	p.next++
	return p.next - 1
}

// A table finds the live blocks of one address space by address: open
// addressing with linear probing. What a search and most deaths need is in the
// slots, so that they touch one cache line each, and one that can be touched in
// advance (warm): rows are spread over memory. A live block costs 61 to 83
// bytes in all: 40 for its row, the rest for its slot.
type table struct {
	pool  *pool
	slots []slot // a power of two of them
	used  int
}

// A slot is a block that is live at addr.
type slot struct {
	addr  uint64
	row   uint32 // in the pool, plus 1; 0 is an empty slot
	batch uint32 // matcher.batch when it was born
}

const minSlots = 64

func newTable(p *pool) *table { return &table{pool: p} }

// hashAddr spreads addresses, whose low bits are mostly zero; the multipliers
// are those of wyhash.
func hashAddr(addr uint64) uint32 {
	h := (addr ^ addr>>32) * 0xa0761d6478bd642f
	h ^= h >> 32
	h *= 0xe7037ed1a0b428db
	return uint32(h ^ h>>29)
}

// home is the slot at which the search for a block begins, nil when there are
// none.
func (t *table) home(hash uint32) *slot {
	if len(t.slots) == 0 {
		return nil
	}
	return &t.slots[hash&uint32(len(t.slots)-1)]
}

// find returns the place of the block at an address, whose hash is given. When
// there is none, ok is false and the place is where it would go.
func (t *table) find(addr uint64, hash uint32) (at uint32, ok bool) {
	slots := t.slots
	if len(slots) == 0 {
		return 0, false
	}
	mask := uint32(len(slots) - 1)
	for at = hash & mask; ; at = (at + 1) & mask {
		switch s := &slots[at]; {
		case s.row == 0:
			return at, false
		case s.addr == addr:
			return at, true
		}
	}
}

// block returns the block at a place where find found one.
func (t *table) block(at uint32) *block { return t.pool.at(t.slots[at].row - 1) }

// insert makes a block at the empty place that find returned for it.
func (t *table) insert(at uint32, addr uint64, hash, batch uint32) *block {
	if t.used*4 >= len(t.slots)*3 {
		t.grow()
		at, _ = t.find(addr, hash)
	}
	t.used++
	row := t.pool.take()
	t.slots[at] = slot{addr, row + 1, batch}
	return t.pool.at(row)
}

// remove takes out the block at a place and moves later ones of its run back:
// there are no tombstones, so the table stays as fast as it was.
func (t *table) remove(at uint32) {
	slots := t.slots
	t.pool.free = append(t.pool.free, slots[at].row-1)
	t.used--
	mask := uint32(len(slots) - 1)
	hole := at
	for at := (at + 1) & mask; slots[at].row != 0; at = (at + 1) & mask {
		home := hashAddr(slots[at].addr) & mask
		if (at-home)&mask >= (at-hole)&mask {
			slots[hole] = slots[at]
			hole = at
		}
	}
	slots[hole] = slot{}
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, max(2*len(old), minSlots))
	mask := uint32(len(t.slots) - 1)
	for _, s := range old {
		if s.row == 0 {
			continue
		}
		at := hashAddr(s.addr) & mask
		for t.slots[at].row != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = s
	}
}

// each calls f with every live block and its address, in no particular order.
func (t *table) each(f func(addr uint64, b *block)) {
	for i := range t.slots {
		if s := &t.slots[i]; s.row != 0 {
			f(s.addr, t.pool.at(s.row-1))
		}
	}
}

// clear removes all blocks and gives their rows back.
func (t *table) clear() {
	for i := range t.slots {
		if row := t.slots[i].row; row != 0 {
			t.pool.free = append(t.pool.free, row-1)
		}
	}
	t.slots, t.used = nil, 0
}
