package snapshot

import (
	"fmt"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/unwind"
)

const (
	rowSteps = len(bpf.RawStepRow{}.At)
	// maxRows bounds the rows that the kernel has room for (steps in
	// bpf/learned.h); the one in place 0 is none.
	maxRows = 1 << placeBits
	// placeBits are those of a row's name that are its place, the rest is the
	// generation of its tree.
	placeBits = 16
	// maxPathRows is how many the kernel looks at for one stack.
	maxPathRows = 96
	// isStep and relative are EDGE and RELATIVE of bpf/learned.h.
	isStep   = 1 << 31
	relative = 0x8000
	// fromPlace is FROM of bpf/learned.h, where a copy's parts begin.
	fromPlace = relative - parts
	// ofPart is 1 << what part of a row has of a step.
	ofPart = 16
)

// A Store is where the kernel looks: the maps steps and edges of bpf/learned.h.
type Store interface {
	PutRow(n uint32, row *bpf.RawStepRow) error
	PutEdge(from bpf.RawEdge, row uint32) error
	DeleteEdge(from bpf.RawEdge) error
}

// Learned is the tree of the steps by which stacks are recognised, and the
// kernel's in step with it.
type Learned struct {
	store      Store
	rows       []row // by place; those from used on are of earlier trees
	used       int
	limit      int
	generation uint32
	edges      map[bpf.RawEdge]uint32 // names of rows
	// Full counts the stacks that found no room, Odd those that did not fit
	// into the tree. The kernel goes on to recognise both by signature.
	Full, Odd uint64
	// Forgotten counts the trees that were given up for a new one.
	Forgotten uint64
}

type row struct {
	id    uint64
	next  uint32 // name
	words uint16 // of the stack that this row and those behind it look at
	steps []step
}

// A step is a word that is to be at a place, which is at of a step_row, with the part << ofPart.
type step struct {
	at   uint32
	want uint64
}

// NewLearned returns an empty tree.
func NewLearned(store Store) *Learned {
	return &Learned{store: store, rows: make([]row, 1), used: 1, limit: maxRows, generation: 1, edges: map[bpf.RawEdge]uint32{}}
}

// Rows is how many rows the tree has.
func (l *Learned) Rows() int { return l.used - 1 }

// Forget gives the tree up and begins a new one. When it returns, the kernel
// recognises no stack any more, but for a program that is doing so right now. The
// error is the store's.
func (l *Learned) Forget() error {
	for e := range l.edges {
		if err := l.store.DeleteEdge(e); err != nil {
			return fmt.Errorf("make the kernel forget stacks: %w", err)
		}
	}
	clear(l.edges)
	l.used = 1
	l.Forgotten++
	if l.generation++; l.generation == 1<<(32-placeBits) {
		l.generation = 1
	}
	return nil
}

// name is what the row in a place is called.
func (l *Learned) name(place int) uint32 { return l.generation<<placeBits | uint32(place) }

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
		r := &l.rows[n&(maxRows-1)]
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
	if l.used+count > l.limit || count > maxPathRows/2 {
		l.Full++
		return nil
	}
	next, words := uint32(0), uint16(0)
	for i := count - 1; i >= 0; i-- {
		part := steps[i*rowSteps : min(len(steps), (i+1)*rowSteps)]
		r := row{id: id, next: next, words: words, steps: append([]step(nil), part...)}
		for _, s := range part {
			if word := int(s.at & (relative - 1)); word >= savedRegs && word < fromPlace {
				r.words = max(r.words, uint16(word-savedRegs+1))
			}
		}
		if err := l.put(&r); err != nil {
			return fmt.Errorf("teach the kernel a stack: %w", err)
		}
		words, next = r.words, l.name(l.used)
		l.used++
	}
	// Only now does anything lead there.
	if err := l.store.PutEdge(at, next); err != nil {
		return fmt.Errorf("teach the kernel a stack: %w", err)
	}
	l.edges[at] = next
	return nil
}

// put brings a row into the next place. If there was another, that is marked first, and is else
// as it was: who is reading it sees either that it is gone, or nothing but it.
func (l *Learned) put(r *row) error {
	n := uint32(l.used)
	if l.used < len(l.rows) {
		if err := l.store.PutRow(n, l.rows[n].raw(0)); err != nil {
			return err
		}
	} else {
		l.rows = append(l.rows, row{})
	}
	l.rows[n] = *r
	return l.store.PutRow(n, r.raw(l.generation))
}

// raw is the row as the kernel has it.
func (r *row) raw(generation uint32) *bpf.RawStepRow {
	raw := &bpf.RawStepRow{Id: r.id, Next: r.next, Count: uint16(len(r.steps)), Words: r.words, Generation: generation}
	for i, s := range r.steps {
		raw.At[i], raw.Want[i] = uint16(s.at), s.want
		raw.Part |= uint64(s.at>>ofPart) << (4 * i)
	}
	return raw
}

// stepsOf turns what a stack's unwinding needed into places in a snapshot.
func stepsOf(s *Snapshot, needs []unwind.Need) ([]step, bool) {
	steps := make([]step, 0, len(needs))
	found := 1 // parts whose place in the copy is made sure of
	for _, n := range needs {
		at, in, ok := s.place(n)
		if !ok {
			return nil, false
		}
		if n.Relative {
			in = max(in, n.Part)
		}
		for ; found <= in; found++ {
			steps = append(steps, step{uint32(fromPlace + found), s.from(found)})
		}
		if n.Relative {
			at |= relative | uint32(n.Part)<<ofPart
			if n.Part == 0 && s.Caller&inside == 0 {
				n.Value += returned // it counts from where the unwinding began
			}
		}
		steps = append(steps, step{at, n.Value})
	}
	return steps, true
}

// from is how many bytes of the copy are before a part.
func (s *Snapshot) from(part int) uint64 {
	n := len(s.Stack)
	for i := range part - 1 {
		n += len(s.Rest[i].Memory)
	}
	return uint64(n)
}

// place is the index of a word in what the kernel has of the stack, and the part that it is in.
func (s *Snapshot) place(n unwind.Need) (at uint32, part int, ok bool) {
	if n.Slot == 0 {
		i, ok := registerIndex(n.Reg)
		return uint32(i), 0, ok
	}
	off, size := n.Slot-s.SP, uint64(len(s.Stack))
	for off >= size {
		if part == len(s.Rest) {
			return 0, 0, false
		}
		off, size = n.Slot-s.Rest[part].At, uint64(len(s.Rest[part].Memory))
		part++
	}
	if part > 0 {
		off += s.from(part)
	}
	return uint32(savedRegs) + uint32(off/8), part, off%8 == 0
}
