package format

import "slices"

// A Filter selects events. The zero value selects all; conditions combine with
// and, the values of a list with or.
type Filter struct {
	From, To int64 // CLOCK_MONOTONIC ns, both inclusive; 0 is open
	Kinds    KindSet
	Pids     []uint32
	Tids     []uint32
	Comms    []string
}

// Match reports whether f selects e.
func (f Filter) Match(r *Reader, e *Event) bool {
	if f.From != 0 && e.Time < f.From || f.To != 0 && e.Time > f.To {
		return false
	}
	if !f.Kinds.Empty() && !f.Kinds.Has(e.Kind) {
		return false
	}
	return !f.byTask() || f.matchTask(r, e.Task)
}

func (f *Filter) byTask() bool { return len(f.Pids)+len(f.Tids)+len(f.Comms) > 0 }

func (f *Filter) matchTask(r *Reader, id TaskID) bool {
	t, _ := r.tables.tasks.get(uint32(id))
	return (len(f.Pids) == 0 || slices.Contains(f.Pids, t.pid)) &&
		(len(f.Tids) == 0 || slices.Contains(f.Tids, t.tid)) &&
		(len(f.Comms) == 0 || slices.Contains(f.Comms, r.String(t.comm)))
}

// mayMatch reports whether a block may hold an event that f selects.
func (f *Filter) mayMatch(r *Reader, b *BlockInfo) bool {
	if f.From != 0 && b.LastTime < f.From || f.To != 0 && b.FirstTime > f.To {
		return false
	}
	if !f.Kinds.Empty() && !f.Kinds.Intersects(b.Kinds) {
		return false
	}
	if !f.byTask() || b.tasks == nil {
		return true
	}
	return slices.ContainsFunc(b.tasks, func(t TaskID) bool { return f.matchTask(r, t) })
}
