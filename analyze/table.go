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
// addressing with linear probing. A slot holds half of the address's hash beside
// the row, so that a search touches no row but the right one: rows are spread
// over memory, and to touch one is a cache miss. A live block costs 59 to 70
// bytes in all: 48 for its row, the rest for its slot.
type table struct {
	pool  *pool
	slots []slot // a power of two of them
	used  int
}

// A slot is the row+1 below 32 bits of the hash; 0 is empty.
type slot uint64

func newSlot(hash uint32, row uint32) slot { return slot(hash)<<32 | slot(row+1) }

func (s slot) hash() uint32 { return uint32(s >> 32) }
func (s slot) row() uint32  { return uint32(s) - 1 }

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

// find returns the place of a block and the block, or nil and the empty place
// where it would go.
func (t *table) find(addr uint64) (at uint32, b *block) {
	if len(t.slots) == 0 {
		return 0, nil
	}
	hash, mask := hashAddr(addr), uint32(len(t.slots)-1)
	for at := hash & mask; ; at = (at + 1) & mask {
		s := t.slots[at]
		if s == 0 {
			return at, nil
		}
		if s.hash() == hash {
			if b := t.pool.at(s.row()); b.addr == addr {
				return at, b
			}
		}
	}
}

// insert adds a block at the empty place that find returned for it.
func (t *table) insert(at uint32, b block) {
	if len(t.slots) == 0 {
		t.slots = make([]slot, minSlots)
		at, _ = t.find(b.addr)
	}
	t.slots[at] = newSlot(hashAddr(b.addr), t.pool.put(b))
	t.used++
	if t.used*4 > len(t.slots)*3 {
		t.grow()
	}
}

// remove takes out the block at a place and moves later ones of its run back:
// there are no tombstones, so the table stays as fast as it was.
func (t *table) remove(at uint32) {
	t.pool.free = append(t.pool.free, t.slots[at].row())
	t.used--
	mask := uint32(len(t.slots) - 1)
	hole := at
	for at := (at + 1) & mask; ; at = (at + 1) & mask {
		s := t.slots[at]
		if s == 0 {
			break
		}
		home := s.hash() & mask
		if (at-home)&mask >= (at-hole)&mask {
			t.slots[hole] = s
			hole = at
		}
	}
	t.slots[hole] = 0
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, 2*len(old))
	mask := uint32(len(t.slots) - 1)
	for _, s := range old {
		if s == 0 {
			continue
		}
		at := s.hash() & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = s
	}
}

// each calls f with every live block, in no particular order.
func (t *table) each(f func(*block)) {
	for _, s := range t.slots {
		if s != 0 {
			f(t.pool.at(s.row()))
		}
	}
}

// clear removes all blocks and gives their rows back.
func (t *table) clear() {
	for _, s := range t.slots {
		if s != 0 {
			t.pool.free = append(t.pool.free, s.row())
		}
	}
	t.slots, t.used = nil, 0
}
