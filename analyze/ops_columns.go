package analyze

import "github.com/tcap-dev/tcap/format"

// heapColumns are the columns of a block of the file that the matcher reads.
type heapColumns struct {
	allocAddr, allocSize, allocStack                []uint64
	newAddr, newSize, newStack, oldAddr, reDuration []uint64
	freeAddr                                        []uint64
}

// newHeapColumns looks the columns up. They are complete for every kind that
// has events in the block, whatever its header says.
func newHeapColumns(b *format.Batch) heapColumns {
	col := func(k format.Kind, f int) []uint64 {
		if cols := b.Cols[k]; f < len(cols) {
			return cols[f]
		}
		return nil
	}
	return heapColumns{
		allocAddr:  col(format.KindAlloc, format.AllocAddr),
		allocSize:  col(format.KindAlloc, format.AllocSize),
		allocStack: col(format.KindAlloc, format.AllocStack),
		newAddr:    col(format.KindRealloc, format.ReallocAddr),
		newSize:    col(format.KindRealloc, format.ReallocSize),
		newStack:   col(format.KindRealloc, format.ReallocStack),
		oldAddr:    col(format.KindRealloc, format.ReallocOld),
		reDuration: col(format.KindRealloc, format.ReallocDuration),
		freeAddr:   col(format.KindFree, format.FreeAddr),
	}
}

// op fills o with all of the operation that a reference stands for.
func (h *heapColumns) op(o *op, b *format.Batch, r *opRef, space uint32) {
	i := r.event()
	row := b.Row[i]
	*o = op{time: b.Time[i], addr: r.addr, at: uint32(i), hash: hashAddr(r.addr), task: uint32(b.Task[i]), space: space, code: r.code()}
	switch o.code {
	case opBirth:
		if b.Kind[i] == format.KindAlloc {
			o.size, o.stack = h.allocSize[row], uint32(h.allocStack[row])
		} else {
			o.size, o.stack = h.newSize[row], uint32(h.newStack[row])
		}
	case opReallocOld:
		o.time = entryTime(o.time, h.reDuration[row])
	case opFork, opExec, opExit:
		var e format.Event
		b.Event(i, &e)
		o.process(&e)
	}
}

// process takes the fields of an event that begins or ends an address space.
func (o *op) process(e *format.Event) {
	switch o.code {
	case opFork:
		o.addr = spaceKey(uint32(e.V[format.ForkChildSpace]), uint32(e.V[format.ForkChildPid]))
		o.size = e.V[format.ForkChildPid]
		o.stack = flagIf(flagShared, e.V[format.ForkSharedVM]) | flagIf(flagThread, e.V[format.ForkThread])
	case opExec:
		o.addr = uint64(uint32(e.V[format.ExecSpace]))
	case opExit:
		o.stack = flagIf(flagGone, e.V[format.ExitSpaceGone])
	}
}

func flagIf(flag uint32, v uint64) uint32 {
	if v != 0 {
		return flag
	}
	return 0
}

// entryTime is the beginning of a call that returned at time t.
func entryTime(t int64, duration uint64) int64 {
	if duration > uint64(maxTime) || t-int64(duration) > t {
		return t // nonsense: no call takes 292 years
	}
	return t - int64(duration)
}
