package analyze

import (
	"math"

	"github.com/tcap-dev/tcap/format"
)

// An opCode says what an operation on the heap is.
type opCode uint8

const (
	opBirth opCode = iota
	opFree
	opReallocOld // the old block of a realloc dies
	opFork
	opExec
	opExit
	opMem // mem.*
)

const (
	flagShared = 1 << iota // fork: the child shares the memory
	flagThread             // fork: a thread
	flagGone               // exit: the memory went too
)

// An op is an event as the matcher wants it; a realloc is two of them.
type op struct {
	time  int64 // ns: a birth's return, a death's entry
	addr  uint64
	size  uint64
	at    uint32 // place in its block of the file
	hash  uint32 // of addr, for births and deaths
	task  uint32
	stack uint32 // births: the stack; fork, exit: flags
	space uint32 // index into matcher.spaces
	code  opCode
}

// An opRef is an op as the two passes hand it on, packed: there are tens of
// thousands of them in a block of the file, and they go from one core to
// another. What does not fit is in the event.
type opRef struct {
	addr  uint64
	at    uint32 // place of the event in its block, below 2^24, above it the opCode, and wideBit
	after uint32 // the op's time, ns after the block's
}

// A birthRef is what else there is to a birth: each has one, in their order.
type birthRef struct{ size, stack uint32 }

const atBits = 24

func (r *opRef) code() opCode { return opCode(r.at &^ wideBit >> atBits) }
func (r *opRef) event() int   { return int(r.at & (1<<atBits - 1)) }
func (r *opRef) born() bool   { return r.at&^wideBit < 1<<atBits } // opBirth is 0

// newOp makes the reference to an op of event i; wide is wideBit or 0, after how long
// after its block's time it is, ns.
func newOp(i int, code opCode, wide uint32, addr uint64, after int64) opRef {
	if uint64(after) > math.MaxUint32 {
		wide = wideBit
	}
	return opRef{addr, uint32(i) | uint32(code)<<atBits | wide, uint32(after)}
}

func newBirth(size, stack uint64) (b birthRef, wide uint32) {
	if size > math.MaxUint32 {
		wide = wideBit
	}
	return birthRef{uint32(size), uint32(stack)}, wide
}

// heapOps is what is left of a block of the file for the sequential pass.
type heapOps struct {
	ops    []opRef
	births []birthRef
	start  batchStart
	cols   heapColumns
	tally  tally  // births in the window by the selected tasks
	frees  uint64 // deaths in the window by the selected tasks
}

// A count is a number of blocks and their bytes.
type count struct{ blocks, bytes uint64 }

func (c *count) add(size uint64) {
	c.blocks++
	c.bytes = addSat(c.bytes, size)
}

func (c *count) merge(d count) {
	c.blocks = addSat(c.blocks, d.blocks)
	c.bytes = addSat(c.bytes, d.bytes)
}

// addSat adds without wrapping around.
func addSat(a, b uint64) uint64 {
	if s := a + b; s >= a {
		return s
	}
	return ^uint64(0)
}

// An extractor turns the blocks of a file into operations, in parallel. Blocks
// of heap that are born and die within a block of the file are dropped here,
// on all cores, by the references that the file stores, unless keep is set:
// they cannot be leaks, and nothing that follows can tell that they were.
type extractor struct {
	r    *format.Reader
	want selection
	keep bool          // all births and deaths
	mem  bool          // mem.* too
	free chan *heapOps // used ones; a sync.Pool would forget them at every collection
}

// maxFree is how many used heapOps are kept: about as many as the reader has
// blocks in flight.
const maxFree = 16

func newExtractor(r *format.Reader, want selection) *extractor {
	return &extractor{r: r, want: want, free: make(chan *heapOps, maxFree)}
}

func (x *extractor) kinds() format.KindSet {
	k := format.NewKindSet(format.KindAlloc, format.KindRealloc, format.KindFree, format.KindFork, format.KindExec, format.KindExit)
	if x.mem {
		for _, m := range []format.Kind{format.KindMap, format.KindUnmap, format.KindRemap, format.KindBrk} {
			k.Add(m)
		}
	}
	return k
}

// work is called for each block, on any goroutine.
func (x *extractor) work(b *format.Batch) any {
	h := x.get()
	h.cols, h.start = newHeapColumns(b), batchStart{b.Info.EventsBefore, b.Info.FirstTime}
	c := cutter{batch: b, h: h, want: x.want, keep: x.keep, mem: x.mem}
	c.plan()
	if c.plain() {
		c.all()
	} else {
		c.run()
	}
	return h
}

func (x *extractor) get() *heapOps {
	select {
	case h := <-x.free:
		h.ops, h.births, h.frees = h.ops[:0], h.births[:0], 0
		h.tally.reset()
		return h
	default:
		return new(heapOps)
	}
}

func (x *extractor) put(h *heapOps) {
	select {
	case x.free <- h:
	default:
	}
}
