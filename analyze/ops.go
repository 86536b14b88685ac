package analyze

import (
	"math"
	"slices"

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
	opMem // mem.*: size is the index into heapOps.mem
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
	hash  uint32
	at    uint32 // place of the event in its block, below 2^24, above it the opCode, and wideBit
	after uint32 // the op's time, ns after the block's
	size  uint32
	stack uint32
	task  uint32
}

const atBits = 24

func (r *opRef) code() opCode { return opCode(r.at &^ wideBit >> atBits) }
func (r *opRef) event() int   { return int(r.at & (1<<atBits - 1)) }

// heapOps is what is left of a block of the file for the sequential pass.
type heapOps struct {
	ops    []opRef
	start  batchStart
	cols   heapColumns
	tally  tally
	allocs count  // births in the window by the selected tasks
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
	c.run()
	return h
}

func (x *extractor) get() *heapOps {
	select {
	case h := <-x.free:
		h.ops, h.allocs, h.frees = h.ops[:0], count{}, 0
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

// A cutter extracts one block.
type cutter struct {
	batch *format.Batch
	h     *heapOps
	want  selection
	keep  bool
	mem   bool

	gone []bool // by event: the birth and the death of its block are dropped; nil: ask the batch
}

// plan finds out which blocks of heap can be dropped. In the common case the
// batch's own marks say it. They do not when a fork, an exec or an exit lies
// between a birth and its death (the child inherits the block), or when the
// window of the analysis ends between them.
func (c *cutter) plan() {
	b := c.batch
	special := format.NewKindSet(format.KindFork, format.KindExec, format.KindExit)
	if c.keep || !b.Info.Kinds.Intersects(special) && b.Info.LastTime <= c.want.to {
		return
	}
	c.gone = make([]bool, b.Len())
	fence := -1 // the last fork, exec or exit
	for i, k := range b.Kind {
		if special.Has(k) {
			fence = i
			continue
		}
		j, ok := b.Freed(i)
		if !ok || j < fence || b.Displaced(j) {
			continue
		}
		if c.deathTime(i) <= c.want.to || b.Time[j] > c.want.to {
			c.gone[j] = true
		}
	}
}

// dropped reports whether the block born by event i is left out.
func (c *cutter) dropped(i int) bool {
	if c.gone != nil {
		return c.gone[i]
	}
	return !c.keep && c.batch.Consumed(i) && !c.batch.Displaced(i)
}

func (c *cutter) deathTime(i int) int64 {
	if c.batch.Kind[i] == format.KindRealloc {
		return entryTime(c.batch.Time[i], c.h.cols.reDuration[c.batch.Row[i]])
	}
	return c.batch.Time[i]
}

func (c *cutter) run() {
	b, cols := c.batch, &c.h.cols
	c.h.ops = slices.Grow(c.h.ops, b.Len())
	for i, k := range b.Kind {
		if b.Time[i] > c.want.to && k != format.KindRealloc {
			continue
		}
		row := b.Row[i]
		switch k {
		case format.KindAlloc:
			c.birth(i, cols.allocAddr[row], cols.allocSize[row], cols.allocStack[row])
		case format.KindFree:
			c.death(i, opFree, cols.freeAddr[row], b.Time[i])
		case format.KindRealloc:
			c.realloc(i, row)
		case format.KindFork:
			c.append(i, opFork, 0, b.Time[i], 0, 0)
		case format.KindExec:
			c.append(i, opExec, 0, b.Time[i], 0, 0)
		case format.KindExit:
			c.append(i, opExit, 0, b.Time[i], 0, 0)
		case format.KindMap, format.KindUnmap, format.KindRemap, format.KindBrk:
			if c.mem {
				c.append(i, opMem, 0, b.Time[i], 0, 0)
			}
		}
	}
}

func (c *cutter) append(i int, code opCode, addr uint64, t int64, size, stack uint64) {
	after := uint64(t - c.h.start.time)
	at := uint32(i) | uint32(code)<<atBits
	if after > math.MaxUint32 || size > math.MaxUint32 {
		at |= wideBit
	}
	c.h.ops = append(c.h.ops, opRef{addr, hashAddr(addr), at, uint32(after), uint32(size), uint32(stack), uint32(c.batch.Task[i])})
}

// selected reports whether what event i did at a time counts.
func (c *cutter) selected(i int, t int64) bool {
	return t >= c.want.from && c.want.task(c.batch.Task[i])
}

// realloc takes the two ends of a call; the first can lie in the window while
// the second does not.
func (c *cutter) realloc(i int, row uint32) {
	t, cols := c.batch.Time[i], &c.h.cols
	if began := entryTime(t, cols.reDuration[row]); cols.oldAddr[row] != 0 && began <= c.want.to {
		c.death(i, opReallocOld, cols.oldAddr[row], began)
	}
	if cols.newAddr[row] != 0 && t <= c.want.to {
		c.birth(i, cols.newAddr[row], cols.newSize[row], cols.newStack[row])
	}
}

func (c *cutter) birth(i int, addr, size, stack uint64) {
	if c.selected(i, c.batch.Time[i]) {
		c.h.allocs.add(size)
		c.h.tally.add(uint32(stack), size)
	}
	if !c.dropped(i) {
		c.append(i, opBirth, addr, c.batch.Time[i], size, stack)
	}
}

func (c *cutter) death(i int, code opCode, addr uint64, t int64) {
	if c.selected(i, t) {
		c.h.frees++
	}
	if j, ok := c.batch.Freed(i); ok && c.dropped(j) {
		return
	}
	c.append(i, code, addr, t, 0, 0)
}
