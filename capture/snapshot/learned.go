package snapshot

import (
	"fmt"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/unwind"
)

const (
	rowSteps = len(bpf.RawStepRow{}.At)
	// maxRows bounds the rows that the kernel has room for (steps in
	// bpf/learned.h); row 0 is none.
	maxRows = 1 << 16
	// maxPathRows is how many the kernel looks at for one stack.
	maxPathRows = 96
	// isStep and relative are EDGE and RELATIVE of bpf/learned.h.
	isStep   = 1 << 31
	relative = 0x8000
)

// A Store is where the kernel looks: the maps steps and edges of bpf/learned.h.
type Store interface {
	PutRow(n uint32, row *bpf.RawStepRow) error
	PutEdge(from bpf.RawEdge, row uint32) error
}

// Learned is the tree of the steps by which stacks are recognised, and the
// kernel's in step with it.
type Learned struct {
	store Store
	rows  []row // by number
	edges map[bpf.RawEdge]uint32
	// Full counts the stacks that found no room, Odd those that did not fit
	// into the tree. The kernel goes on to recognise both by signature.
	Full, Odd uint64
}

type row struct {
	id    uint64
	next  uint32
	steps []step
}

// A step is a word that is to be at a place.
type step struct {
	at   uint16
	want uint64
}

// NewLearned returns an empty tree.
func NewLearned(store Store) *Learned {
	return &Learned{store: store, rows: make([]row, 1), edges: map[bpf.RawEdge]uint32{}}
}

// Add makes the kernel recognise a stack. The error is the store's.
func (l *Learned) Add(s *Snapshot, needs []unwind.Need) error {
	steps, ok := stepsOf(s, needs)
	if !ok {
		l.Odd++
		return nil
	}
	at := bpf.RawEdge{From: s.Code, At: s.Depth, Word: s.Caller}
	for {
		n, ok := l.edges[at]
		if !ok {
			return l.graft(at, steps, s.ID)
		}
		var fits bool
		if at, steps, fits = l.descend(n, steps); !fits {
			l.Odd++
			return nil
		}
		if at == (bpf.RawEdge{}) {
			return nil // it is known
		}
	}
}

// descend follows the rows from n as far as they agree with the steps. It
// returns the edge at which they part and the steps behind it; no edge if they
// do not part at all.
func (l *Learned) descend(n uint32, steps []step) (at bpf.RawEdge, rest []step, fits bool) {
	for {
		r := &l.rows[n]
		for i, s := range r.steps {
			if len(steps) == 0 || s.at != steps[0].at {
				return at, nil, false // what was the same up to here cannot go on in two ways
			}
			if s.want != steps[0].want {
				return bpf.RawEdge{From: n, At: isStep | uint32(i), Word: steps[0].want}, steps[1:], true
			}
			steps = steps[1:]
		}
		if r.next == 0 {
			return at, nil, len(steps) == 0
		}
		n = r.next
	}
}

// graft puts new steps behind an edge.
func (l *Learned) graft(at bpf.RawEdge, steps []step, id uint64) error {
	count := max(1, (len(steps)+rowSteps-1)/rowSteps)
	if len(l.rows)+count > maxRows || count > maxPathRows/2 {
		l.Full++
		return nil
	}
	next, words := uint32(0), uint16(0)
	for i := count - 1; i >= 0; i-- {
		part := steps[i*rowSteps : min(len(steps), (i+1)*rowSteps)]
		n := uint32(len(l.rows))
		r := row{id: id, next: next, steps: append([]step(nil), part...)}
		raw := r.raw()
		words = max(words, raw.Words)
		raw.Words = words
		if err := l.store.PutRow(n, raw); err != nil {
			return fmt.Errorf("teach the kernel a stack: %w", err)
		}
		l.rows = append(l.rows, r)
		next = n
	}
	// Only now does anything lead there.
	if err := l.store.PutEdge(at, next); err != nil {
		return fmt.Errorf("teach the kernel a stack: %w", err)
	}
	l.edges[at] = next
	return nil
}

func (r *row) raw() *bpf.RawStepRow {
	raw := &bpf.RawStepRow{Id: r.id, Next: r.next, Count: uint16(len(r.steps))}
	for i, s := range r.steps {
		raw.At[i], raw.Want[i] = s.at, s.want
		if word := int(s.at &^ relative); word >= savedRegs {
			raw.Words = max(raw.Words, uint16(word-savedRegs+1))
		}
	}
	return raw
}

// stepsOf turns what a stack's unwinding needed into places in a snapshot.
func stepsOf(s *Snapshot, needs []unwind.Need) ([]step, bool) {
	steps := make([]step, 0, len(needs))
	for _, n := range needs {
		at := uint64(savedRegs) + (n.Slot-s.SP)/8
		if n.Slot == 0 {
			i, ok := registerIndex(n.Reg)
			if !ok {
				return nil, false
			}
			at = uint64(i)
		} else if n.Slot < s.SP || (n.Slot-s.SP)%8 != 0 || n.Slot-s.SP >= uint64(len(s.Stack)) {
			return nil, false
		}
		if n.Relative {
			at |= relative
			if s.Caller&inside == 0 {
				n.Value += returned // it counts from where the unwinding began
			}
		}
		steps = append(steps, step{uint16(at), n.Value})
	}
	return steps, true
}
