package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Before Linux 6.12 a child of a target may lose its probes between its birth
// and the moment at which it is given to the Attacher (see NeedsChildren in
// capture/probe). The scheduler exchanges what two tasks have inherited if one
// is a clone of the other, or both are of a third; and what a task holds goes
// when it ends. So nothing is lost unless one of such a family ends within that
// moment, and the records tell exactly when that is.

// A relative is a process that was cloned from a target, or a target that was
// cloned from.
type relative struct {
	pid    uint32
	born   int64 // monotonic ns
	kept   int64 // from when on its probes are its own; 0: from the beginning
	family map[*relative]bool
	hit    bool // a note about it has been made
}

// kin are the relatives that are alive, by pid.
type kin map[uint32]*relative

func (k kin) add(pid uint32, born, kept int64, family map[*relative]bool) *relative {
	r := &relative{pid: pid, born: born, kept: kept, family: family}
	if family == nil {
		r.family = map[*relative]bool{}
	}
	r.family[r] = true
	k[pid] = r
	return r
}

// bear adds a child. Threads that a target has made after it became one are not
// kept apart from their children, so only the main thread's are no family.
func (k kin) bear(parent, parentTid, child uint32, born, kept int64) {
	p := k[parent]
	if p == nil {
		p = k.add(parent, 0, 0, nil)
	}
	if born < p.kept || parentTid != parent {
		k.add(child, born, kept, p.family)
	} else {
		k.add(child, born, kept, nil)
	}
}

// end takes the end of a thread, of the whole process if gone is set. It
// returns those of its family that may have lost their probes by it.
func (k kin) end(pid uint32, gone bool, at int64) (hit []*relative) {
	r := k[pid]
	if r == nil {
		return nil
	}
	if gone {
		delete(k, pid)
		delete(r.family, r)
	}
	for m := range r.family {
		if m.born < at && at < m.kept && !m.hit {
			m.hit = true
			hit = append(hit, m)
		}
	}
	return hit
}

// born takes a process that a target has started.
func (h *targetProbes) born(parent, parentTid, child uint32, at int64) error {
	if !h.at.NeedsChildren() {
		return nil
	}
	if !h.at.FollowsFork() {
		return h.join(child)
	}
	if err := h.at.AddChild(int(child)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := h.failed(err); err != nil {
			return err
		}
	}
	h.kin.bear(parent, parentTid, child, at, monotonic())
	return nil
}

// ended takes the end of a target's thread, of the whole process if gone is set.
func (h *targetProbes) ended(pid uint32, gone bool, at int64) error {
	if !h.at.NeedsChildren() {
		return nil
	}
	if gone {
		h.at.Forget(int(pid))
	}
	for _, m := range h.kin.end(pid, gone, at) {
		if err := h.warn("on kernels before 6.12, a process that a target starts can lose its probes for a moment if it starts others at once; notes in the capture say which and when"); err != nil {
			return err
		}
		if err := h.r.note(false, fmt.Sprintf("pid %d: what it did between %v and %v after its birth may be missing",
			m.pid, time.Duration(at-m.born).Round(time.Microsecond), time.Duration(m.kept-m.born).Round(time.Microsecond))); err != nil {
			return err
		}
	}
	return nil
}
