package analyze

import (
	"slices"

	"github.com/tcap-dev/tcap/format"
)

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

// run takes the events one by one.
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
		default:
			c.other(i, k)
		}
	}
}

// other takes an event that is not of a block of heap.
func (c *cutter) other(i int, k format.Kind) {
	switch k {
	case format.KindFork:
		c.append(i, opFork, 0, 0, c.batch.Time[i])
	case format.KindExec:
		c.append(i, opExec, 0, 0, c.batch.Time[i])
	case format.KindExit:
		c.append(i, opExit, 0, 0, c.batch.Time[i])
	case format.KindMap, format.KindUnmap, format.KindRemap, format.KindBrk:
		if c.mem {
			c.append(i, opMem, 0, 0, c.batch.Time[i])
		}
	}
}

func (c *cutter) append(i int, code opCode, wide uint32, addr uint64, t int64) {
	c.h.ops = append(c.h.ops, newOp(i, code, wide, addr, t-c.h.start.time))
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
		c.h.tally.add(uint32(stack), size)
	}
	if c.dropped(i) {
		return
	}
	birth, wide := newBirth(size, stack)
	c.h.births = append(c.h.births, birth)
	c.append(i, opBirth, wide, addr, c.batch.Time[i])
}

func (c *cutter) death(i int, code opCode, addr uint64, t int64) {
	if c.selected(i, t) {
		c.h.frees++
	}
	if j, ok := c.batch.Freed(i); ok && c.dropped(j) {
		return
	}
	c.append(i, code, 0, addr, t)
}

// plain reports whether everything in the block counts, so that all can take it.
func (c *cutter) plain() bool {
	return c.gone == nil && !c.keep && !c.want.byTask && c.want.from == minTime && c.want.to == maxTime
}

// all does what run does for a plain block, in which nearly all events of a capture
// are: it counts whole columns, and asks of each event only whether its block
// of heap is known to anything outside.
func (c *cutter) all() {
	b, h := c.batch, c.h
	columns := len(h.cols.newAddr) == 0 // else their births come in between, and stacks are told in the order of their first
	if columns {
		h.tally.addAll(h.cols.allocStack, h.cols.allocSize)
	}
	h.frees = uint64(len(h.cols.freeAddr))
	ops, births := slices.Grow(h.ops, b.Len()), slices.Grow(h.births, len(h.cols.allocAddr))
	allocs, frees := 0, 0 // rows of the two kinds
	for i, k := range b.Kind {
		switch k {
		case format.KindAlloc:
			row := allocs
			allocs++
			if !columns {
				h.tally.add(uint32(h.cols.allocStack[row]), h.cols.allocSize[row])
			}
			if b.Consumed(i) && !b.Displaced(i) {
				continue
			}
			birth, wide := newBirth(h.cols.allocSize[row], h.cols.allocStack[row])
			births = append(births, birth)
			ops = append(ops, newOp(i, opBirth, wide, h.cols.allocAddr[row], b.Time[i]-h.start.time))
		case format.KindFree:
			row := frees
			frees++
			if j, ok := b.Freed(i); ok && !b.Displaced(j) {
				continue
			}
			ops = append(ops, newOp(i, opFree, 0, h.cols.freeAddr[row], b.Time[i]-h.start.time))
		default:
			h.ops, h.births = ops, births
			if k == format.KindRealloc {
				c.realloc(i, b.Row[i])
			} else {
				c.other(i, k)
			}
			ops, births = h.ops, h.births
		}
	}
	h.ops, h.births = ops, births
}
