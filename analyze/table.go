package analyze

// A block is a live heap block.
type block struct {
	addr  uint64
	size  uint64
	birth int64  // ns, the return of the call that made it
	ord   uint64 // place of the birth in the file
	stack uint32
	task  uint32
	mark  uint64 // what the matcher's user wants to know again at the death
}

// pool keeps the blocks of all tables in chunks that never move, so that rows
// are 32-bit numbers and the garbage collector has no pointers to follow.
type pool struct {
	chunks [][]block
	free   []uint32 // rows that died
	next   uint32   // first row never used
}

const (
	chunkBits = 14 // rows per chunk: 16384, 768 KiB
	chunkMask = 1<<chunkBits - 1
)

func (p *pool) at(row uint32) *block { return &p.chunks[row>>chunkBits][row&chunkMask] }

func (p *pool) put(b block) uint32 {
	var row uint32
	if n := len(p.free); n > 0 {
		row, p.free = p.free[n-1], p.free[:n-1]
	} else {
		row = p.next
		p.next++
		if int(row>>chunkBits) == len(p.chunks) {
			p.chunks = append(p.chunks, make([]block, 1<<chunkBits))
		}
	}
	*p.at(row) = b
	return row
}

// A table finds the live blocks of one address space by address: open
// addressing with linear probing over row numbers. A live block costs about 56
// bytes in all: 48 for its row, 5 to 11 for its slot.
type table struct {
	pool  *pool
	slots []uint32 // row+1, 0 is empty; a power of two of them
	used  int
}

const minSlots = 64

func newTable(p *pool) *table { return &table{pool: p} }

// hashAddr spreads addresses, whose low bits are mostly zero; the multipliers
// are those of wyhash.
func hashAddr(addr uint64) uint64 {
	h := (addr ^ addr>>32) * 0xa0761d6478bd642f
	h ^= h >> 32
	h *= 0xe7037ed1a0b428db
	return h ^ h>>29
}

// find returns the slot of a block and the block, or nil and the empty slot
// where it would go.
func (t *table) find(addr uint64) (slot uint64, b *block) {
	if len(t.slots) == 0 {
		return 0, nil
	}
	mask := uint64(len(t.slots) - 1)
	for s := hashAddr(addr) & mask; ; s = (s + 1) & mask {
		r := t.slots[s]
		if r == 0 {
			return s, nil
		}
		if b := t.pool.at(r - 1); b.addr == addr {
			return s, b
		}
	}
}

// insert adds a block at the empty slot that find returned for it.
func (t *table) insert(slot uint64, b block) {
	if len(t.slots) == 0 {
		t.slots = make([]uint32, minSlots)
		slot, _ = t.find(b.addr)
	}
	t.slots[slot] = t.pool.put(b) + 1
	t.used++
	if t.used*4 > len(t.slots)*3 {
		t.grow()
	}
}

// remove takes out the block in a slot and moves later ones of its run back:
// there are no tombstones, so the table stays as fast as it was.
func (t *table) remove(slot uint64) {
	t.pool.free = append(t.pool.free, t.slots[slot]-1)
	t.used--
	mask := uint64(len(t.slots) - 1)
	hole := slot
	for s := (slot + 1) & mask; ; s = (s + 1) & mask {
		r := t.slots[s]
		if r == 0 {
			break
		}
		home := hashAddr(t.pool.at(r-1).addr) & mask
		if (s-home)&mask >= (s-hole)&mask {
			t.slots[hole] = r
			hole = s
		}
	}
	t.slots[hole] = 0
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]uint32, 2*len(old))
	mask := uint64(len(t.slots) - 1)
	for _, r := range old {
		if r == 0 {
			continue
		}
		s := hashAddr(t.pool.at(r-1).addr) & mask
		for t.slots[s] != 0 {
			s = (s + 1) & mask
		}
		t.slots[s] = r
	}
}

// each calls f with every live block, in no particular order.
func (t *table) each(f func(*block)) {
	for _, r := range t.slots {
		if r != 0 {
			f(t.pool.at(r - 1))
		}
	}
}

// clear removes all blocks and gives their rows back.
func (t *table) clear() {
	for _, r := range t.slots {
		if r != 0 {
			t.pool.free = append(t.pool.free, r-1)
		}
	}
	t.slots, t.used = nil, 0
}
