package analyze

import (
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

// An op is an event as the matcher wants it; a realloc is two of them. There
// are tens of thousands of them in a block of the file, so it is kept small.
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

// heapOps is what is left of a block of the file for the sequential pass.
type heapOps struct {
	ops    []op
	mem    []format.Event
	base   uint64 // place in the file of the block's first event
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
	h.base = b.Info.EventsBefore
	c := cutter{batch: b, h: h, want: x.want, keep: x.keep, mem: x.mem}
	c.columns()
	c.plan()
	c.run()
	return h
}

func (x *extractor) get() *heapOps {
	select {
	case h := <-x.free:
		h.ops, h.mem, h.allocs, h.frees = h.ops[:0], h.mem[:0], count{}, 0
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

	allocAddr, allocSize, allocStack                []uint64
	newAddr, newSize, newStack, oldAddr, reDuration []uint64
	freeAddr                                        []uint64
}

// columns looks the columns up. A column that the file lacks is one of zeros.
func (c *cutter) columns() {
	col := func(k format.Kind, f int) []uint64 {
		if cols := c.batch.Cols[k]; f < len(cols) && cols[f] != nil {
			return cols[f]
		}
		return make([]uint64, c.batch.Len())
	}
	c.allocAddr = col(format.KindAlloc, format.AllocAddr)
	c.allocSize = col(format.KindAlloc, format.AllocSize)
	c.allocStack = col(format.KindAlloc, format.AllocStack)
	c.freeAddr = col(format.KindFree, format.FreeAddr)
	if !c.batch.Info.Kinds.Has(format.KindRealloc) {
		return
	}
	c.newAddr = col(format.KindRealloc, format.ReallocAddr)
	c.newSize = col(format.KindRealloc, format.ReallocSize)
	c.newStack = col(format.KindRealloc, format.ReallocStack)
	c.oldAddr = col(format.KindRealloc, format.ReallocOld)
	c.reDuration = col(format.KindRealloc, format.ReallocDuration)
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
		return entryTime(c.batch.Time[i], c.reDuration[c.batch.Row[i]])
	}
	return c.batch.Time[i]
}

// entryTime is the beginning of a call that returned at time t.
func entryTime(t int64, duration uint64) int64 {
	if duration > uint64(maxTime) || t-int64(duration) > t {
		return t // nonsense: no call takes 292 years
	}
	return t - int64(duration)
}

func (c *cutter) run() {
	b := c.batch
	c.h.ops = slices.Grow(c.h.ops, b.Len())
	for i, k := range b.Kind {
		if b.Time[i] > c.want.to && k != format.KindRealloc {
			continue
		}
		row := b.Row[i]
		switch k {
		case format.KindAlloc:
			c.birth(i, c.allocAddr[row], c.allocSize[row], c.allocStack[row])
		case format.KindFree:
			c.death(i, opFree, c.freeAddr[row], b.Time[i])
		case format.KindRealloc:
			c.realloc(i, row)
		case format.KindFork, format.KindExec, format.KindExit:
			c.process(i)
		case format.KindMap, format.KindUnmap, format.KindRemap, format.KindBrk:
			if c.mem {
				c.append(op{time: b.Time[i], size: uint64(len(c.h.mem)), at: uint32(i), task: uint32(b.Task[i]), code: opMem})
				var e format.Event
				b.Event(i, &e)
				c.h.mem = append(c.h.mem, e)
			}
		}
	}
}

func (c *cutter) append(o op) { c.h.ops = append(c.h.ops, o) }

// selected reports whether what event i did at a time counts.
func (c *cutter) selected(i int, t int64) bool {
	return t >= c.want.from && c.want.task(c.batch.Task[i])
}

// realloc takes the two ends of a call; the first can lie in the window while
// the second does not.
func (c *cutter) realloc(i int, row uint32) {
	b := c.batch
	if began := entryTime(b.Time[i], c.reDuration[row]); c.oldAddr[row] != 0 && began <= c.want.to {
		c.death(i, opReallocOld, c.oldAddr[row], began)
	}
	if c.newAddr[row] != 0 && b.Time[i] <= c.want.to {
		c.birth(i, c.newAddr[row], c.newSize[row], c.newStack[row])
	}
}

func (c *cutter) birth(i int, addr, size, stack uint64) {
	t := c.batch.Time[i]
	if c.selected(i, t) {
		c.h.allocs.add(size)
		c.h.tally.add(uint32(stack), size)
	}
	if !c.dropped(i) {
		c.append(op{
			time: t, addr: addr, size: size, at: uint32(i), hash: hashAddr(addr),
			task: uint32(c.batch.Task[i]), stack: uint32(stack), code: opBirth,
		})
	}
}

func (c *cutter) death(i int, code opCode, addr uint64, t int64) {
	if c.selected(i, t) {
		c.h.frees++
	}
	if j, ok := c.batch.Freed(i); ok && c.dropped(j) {
		return
	}
	c.append(op{time: t, addr: addr, at: uint32(i), hash: hashAddr(addr), task: uint32(c.batch.Task[i]), code: code})
}

func (c *cutter) process(i int) {
	var e format.Event
	c.batch.Event(i, &e)
	o := op{time: e.Time, at: uint32(i), task: uint32(e.Task)}
	switch e.Kind {
	case format.KindFork:
		o.code = opFork
		o.addr = spaceKey(uint32(e.V[format.ForkChildSpace]), uint32(e.V[format.ForkChildPid]))
		o.size = e.V[format.ForkChildPid]
		o.stack = flagIf(flagShared, e.V[format.ForkSharedVM]) | flagIf(flagThread, e.V[format.ForkThread])
	case format.KindExec:
		o.code = opExec
		o.addr = spaceKey(uint32(e.V[format.ExecSpace]), c.want.r.Task(e.Task).Pid)
	case format.KindExit:
		o.code = opExit
		o.stack = flagIf(flagGone, e.V[format.ExitSpaceGone])
	}
	c.append(o)
}

func flagIf(flag uint32, v uint64) uint32 {
	if v != 0 {
		return flag
	}
	return 0
}
