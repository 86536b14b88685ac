package capture

import (
	"maps"
	"slices"
	"strconv"

	"github.com/tcap-dev/tcap/format"
)

// stackTable turns the kernel's stacks, which are a hash and addresses, into
// rows of the capture: the same addresses are other frames in another address
// space, which therefore keeps the rows.
//
// The kernel sends the addresses of a stack once, and addresses differ from one
// run of a program to the next. So that a long recording of many short
// processes does not hold on to all that there ever were, addresses are kept for
// two generations: when a new one begins, the kernel is made to forget what it
// sent, and what is in use still is sent again.
type stackTable struct {
	frames
	sent  forgetter // the kernel's own list of what it need not send again
	limit int       // stacks in a generation

	young, old map[uint64][]uint64 // addresses by hash, innermost first
	stale      []uint64            // hashes of old that the kernel is still to forget

	cache [1 << 10]struct {
		key stackKey
		row format.StackID
	}
	// Unknown counts events whose stack's addresses were lost in the ring.
	Unknown uint64
}

// A forgetter is a map of the kernel's, as far as it is needed here.
type forgetter interface{ Delete(key any) error }

type stackKey struct {
	hash    uint64
	space   uint32
	changes uint32
}

const (
	// fullGeneration is how many stacks there are in one: a quarter of what the
	// kernel has room for (stacks in bpf/heap.h).
	fullGeneration = 1 << 18
	// forgetAtOnce bounds what a call of age does, to some 10 ms.
	forgetAtOnce = 1 << 14
)

func newStackTable(w *format.Writer, names *symbolizer, sent forgetter) *stackTable {
	return &stackTable{
		frames: frames{w: w, names: names, asked: map[format.FrameID]bool{}}, sent: sent, limit: fullGeneration,
		young: map[uint64][]uint64{},
	}
}

// add notes the addresses of a stack.
func (st *stackTable) add(hash uint64, addrs []uint64) {
	if _, ok := st.young[hash]; ok {
		return
	}
	st.young[hash] = append([]uint64(nil), addrs...)
}

// age begins a new generation when it is time, and goes on making the kernel
// forget the one before.
func (st *stackTable) age() {
	if len(st.stale) == 0 && len(st.young) >= st.limit {
		st.old, st.young = st.young, map[uint64][]uint64{}
		st.stale = slices.Collect(maps.Keys(st.old))
	}
	now := st.stale[:min(len(st.stale), forgetAtOnce)]
	for _, hash := range now {
		st.forget(hash)
	}
	st.stale = st.stale[len(now):]
}

// forget makes the kernel send a stack again. What it does not know, it will
// send anyway.
func (st *stackTable) forget(hash uint64) { _ = st.sent.Delete(hash) }

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
	row, ok := s.stacks[hash]
	if !ok {
		if row, ok = st.build(hash, s); !ok {
			st.Unknown++
			st.forget(hash)
			return 0
		}
		if s.stacks == nil {
			s.stacks = map[uint64]format.StackID{}
		}
		s.stacks[hash] = row
	}
	c.key, c.row = key, row
	return row
}

// build makes the row, if the addresses are known.
func (st *stackTable) build(hash uint64, s *space) (row format.StackID, ok bool) {
	addrs, ok := st.young[hash]
	if !ok {
		addrs, ok = st.old[hash]
	}
	for _, addr := range slices.Backward(s.believable(addrs)) {
		row = st.w.Stack(row, st.frame(addr, s))
	}
	return row, ok
}

// believable is the part of a stack that can be one. A walk by frame pointers
// that meets code without them takes what lies there for a return address: a
// number, a pointer to data. The first address outside all mapped files ends
// the stack, but for the innermost, which was no guess, and may be in code that
// a program made itself.
func (s *space) believable(addrs []uint64) []uint64 {
	for i := 1; i < len(addrs); i++ {
		if m, _ := s.find(addrs[i]); m == nil {
			return addrs[:i]
		}
	}
	return addrs
}

// frames makes the rows of frames, and has them named.
type frames struct {
	w     *format.Writer
	names *symbolizer
	asked map[format.FrameID]bool
}

// symbol gives the frame of an address that is no return address, as that of a
// function.
func (fs *frames) symbol(addr uint64, s *space) format.FrameID {
	m, offset := s.find(addr)
	if m == nil {
		return fs.w.Frame(format.Frame{Offset: addr})
	}
	id := fs.w.Frame(format.Frame{Module: m.id, Offset: offset})
	if m.file != nil && !fs.asked[id] {
		fs.asked[id] = true
		fs.names.ask(id, m, offset+1) // which it takes for a return address
	}
	return id
}

// frame gives the row of a return address.
func (fs *frames) frame(addr uint64, s *space) format.FrameID {
	m, offset := s.find(addr)
	if m == nil {
		if m = s.generated(fs.w); m == nil {
			return fs.w.Frame(format.Frame{Offset: addr})
		}
	}
	return fs.at(m, offset)
}

// at gives the row of a place in a file.
func (fs *frames) at(m *module, offset uint64) format.FrameID {
	id := fs.w.Frame(format.Frame{Module: m.id, Offset: offset})
	if (m.file != nil || m.jit != nil) && !fs.asked[id] {
		fs.asked[id] = true
		fs.names.ask(id, m, offset)
	}
	return id
}

func itoa(n uintptr) string { return strconv.FormatUint(uint64(n), 10) }
