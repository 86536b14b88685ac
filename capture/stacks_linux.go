package capture

import (
	"strconv"

	"github.com/tcap-dev/tcap/format"
)

// stackTable turns the kernel's stacks, which are a hash and addresses, into
// rows of the capture: the same addresses are other frames in another address
// space.
type stackTable struct {
	w     *format.Writer
	names *symbolizer
	raw   map[uint64][]uint64 // addresses by hash, innermost first
	rows  map[stackKey]format.StackID
	cache [1 << 10]struct {
		key stackKey
		row format.StackID
	}
	asked map[format.FrameID]bool
	// Unknown counts events whose stack's addresses were lost in the ring.
	Unknown uint64
}

type stackKey struct {
	hash    uint64
	space   uint32
	changes uint32
}

func newStackTable(w *format.Writer, names *symbolizer) *stackTable {
	return &stackTable{w: w, names: names, raw: map[uint64][]uint64{}, rows: map[stackKey]format.StackID{}, asked: map[format.FrameID]bool{}}
}

// add notes the addresses of a stack.
func (st *stackTable) add(hash uint64, addrs []uint64) {
	if _, ok := st.raw[hash]; ok {
		return
	}
	st.raw[hash] = append([]uint64(nil), addrs...)
}

// row gives the capture's stack for a hash as it reads in an address space now.
func (st *stackTable) row(hash uint64, s *space) format.StackID {
	if hash == 0 {
		return 0
	}
	key := stackKey{hash, s.id, s.changes}
	c := &st.cache[hash%uint64(len(st.cache))]
	if c.key == key {
		return c.row
	}
	row, ok := st.rows[key]
	if !ok {
		row = st.build(hash, s)
		st.rows[key] = row
	}
	c.key, c.row = key, row
	return row
}

func (st *stackTable) build(hash uint64, s *space) format.StackID {
	addrs, ok := st.raw[hash]
	if !ok {
		st.Unknown++
		return 0
	}
	var row format.StackID
	for i := len(addrs) - 1; i >= 0; i-- {
		row = st.w.Stack(row, st.frame(addrs[i], s))
	}
	return row
}

func (st *stackTable) frame(addr uint64, s *space) format.FrameID {
	m, offset := s.find(addr)
	if m == nil {
		return st.w.Frame(format.Frame{Offset: addr})
	}
	id := st.w.Frame(format.Frame{Module: m.id, Offset: offset})
	if m.file != nil && !st.asked[id] {
		st.asked[id] = true
		st.names.ask(id, m, offset)
	}
	return id
}

func itoa(n uintptr) string { return strconv.FormatUint(uint64(n), 10) }
