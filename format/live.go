package format

// liveBlocks knows the live heap blocks of one address space: open addressing
// with linear probing, 16 bytes a slot, no tombstones. It tells a free which
// birth in the current events block it ends.
type liveBlocks struct {
	slots []liveSlot // a power of two; addr 0 is an empty slot
	n     int
	shift uint // 64 - log2(len(slots))

	block  uint32 // the events block of the latest birth
	latest int64  // the greatest time of a birth, and of one in an earlier block, ns
	prior  int64
}

type liveSlot struct {
	addr  uint64
	block uint32 // number of the events block in which it was born
	birth uint32 // its place among the births of that block
}

const liveMinBits = 10

func newLiveBlocks() *liveBlocks {
	return &liveBlocks{slots: make([]liveSlot, 1<<liveMinBits), shift: 64 - liveMinBits}
}

// home is the slot at which the search for addr begins. Blocks are mostly 16
// bytes aligned; the multiplication (Knuth 6.4) spreads what remains.
func (t *liveBlocks) home(addr uint64) uint64 {
	return (addr >> 3) * 0x9e3779b97f4a7c15 >> t.shift
}

// put records a birth and reports whether a block was live at addr before.
func (t *liveBlocks) put(addr uint64, block, birth uint32) (displaced bool) {
	mask := uint64(len(t.slots) - 1)
	i := t.home(addr)
	for ; t.slots[i].addr != 0; i = (i + 1) & mask {
		if t.slots[i].addr == addr {
			t.slots[i].block, t.slots[i].birth = block, birth
			return true
		}
	}
	t.slots[i] = liveSlot{addr, block, birth}
	if t.n++; t.n > len(t.slots)*3/4 {
		t.grow()
	}
	return false
}

// bear notes the time of a birth.
func (t *liveBlocks) bear(block uint32, at int64) {
	if block != t.block {
		t.block, t.prior = block, t.latest
	}
	t.latest = max(t.latest, at)
}

// find returns the slot of addr, -1 when no block is live there.
func (t *liveBlocks) find(addr uint64) int {
	mask := uint64(len(t.slots) - 1)
	for i := t.home(addr); t.slots[i].addr != 0; i = (i + 1) & mask {
		if t.slots[i].addr == addr {
			return int(i)
		}
	}
	return -1
}

// remove empties slot i and closes the gap in the chain that it leaves.
func (t *liveBlocks) remove(at int) {
	mask := uint64(len(t.slots) - 1)
	i := uint64(at)
	for j := (i + 1) & mask; t.slots[j].addr != 0; j = (j + 1) & mask {
		// The block in slot j may move to i unless its home lies behind i.
		if home := t.home(t.slots[j].addr); (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = liveSlot{}
	t.n--
}

func (t *liveBlocks) grow() {
	old := t.slots
	t.slots = make([]liveSlot, 2*len(old))
	t.shift--
	mask := uint64(len(t.slots) - 1)
	for _, s := range old {
		if s.addr == 0 {
			continue
		}
		i := t.home(s.addr)
		for t.slots[i].addr != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = s
	}
}

// spaceTables holds the live blocks of every address space.
type spaceTables struct {
	byID   map[uint32]*liveBlocks
	shared map[uint32]int // processes that borrow the space of their parent (vfork)

	lastID uint32
	last   *liveBlocks
}

// of returns the table of a space, nil for space 0, which is unknown: events
// of different processes meet there, and a reference between them would be
// a lie.
func (s *spaceTables) of(space uint32) *liveBlocks {
	if space == s.lastID { // at first 0, and nil
		return s.last
	}
	if space == 0 {
		return nil
	}
	t := s.byID[space]
	if t == nil {
		if s.byID == nil {
			s.byID, s.shared = map[uint32]*liveBlocks{}, map[uint32]int{}
		}
		t = newLiveBlocks()
		s.byID[space] = t
	}
	s.lastID, s.last = space, t
	return t
}

// process follows the end of address spaces: a space is dropped when its
// process replaces its image or ends, unless it was only borrowed.
func (s *spaceTables) process(e *Event, space uint32) {
	switch {
	case e.Kind == KindFork:
		if e.V[ForkSharedVM] != 0 && e.V[ForkThread] == 0 && s.shared != nil {
			s.shared[space]++
		}
	case s.shared[space] > 0 && !(e.Kind == KindExit && e.V[ExitSpaceGone] != 0):
		s.shared[space]--
	case e.Kind == KindExec || e.V[ExitSpaceGone] != 0:
		delete(s.byID, space)
		delete(s.shared, space)
		if s.lastID == space {
			s.lastID, s.last = 0, nil
		}
	}
}
