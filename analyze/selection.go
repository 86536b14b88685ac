package analyze

import "github.com/tcap-dev/tcap/format"

// A selection is the common filter as the heap analyses take it.
//
// Its times are a window, both ends belong to it. The heap is looked at as it
// was at the end of the window: what happened later did not happen. Blocks born
// before the beginning are followed, so that their frees are known, but not
// reported. A realloc counts by both of its ends: the old block dies when the
// call begins, even when it returns after the window.
//
// Its pids, tids and comms select by who allocated.
type selection struct {
	r        *format.Reader
	from, to int64 // ns on the clock of the events; to is maxTime when open
	filter   format.Filter
	byTask   bool
}

func newSelection(r *format.Reader, f format.Filter) selection {
	s := selection{r: r, from: minTime, to: maxTime, byTask: len(f.Pids)+len(f.Tids)+len(f.Comms) > 0}
	if f.From != 0 {
		s.from = f.From
	}
	if f.To != 0 {
		s.to = f.To
	}
	s.filter = format.Filter{Pids: f.Pids, Tids: f.Tids, Comms: f.Comms}
	return s
}

const (
	maxTime = int64(^uint64(0) >> 1)
	minTime = -maxTime - 1
)

// task reports whether a task is selected.
func (s *selection) task(id format.TaskID) bool {
	return !s.byTask || s.filter.Match(s.r, &format.Event{Task: id})
}

// spaceKey names an address space: by its number, or by the pid when the
// recorder does not know the number.
func spaceKey(space, pid uint32) uint64 {
	if space == 0 {
		return 1<<32 | uint64(pid)
	}
	return uint64(space)
}
