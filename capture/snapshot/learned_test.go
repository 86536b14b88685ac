package snapshot

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/unwind"
)

// kernel is the kernel's side: the maps, and learned_stack of bpf/learned.h.
type kernel struct {
	rows  map[uint32]bpf.RawStepRow
	edges map[bpf.RawEdge]uint32
}

func newKernel() *kernel {
	return &kernel{map[uint32]bpf.RawStepRow{}, map[bpf.RawEdge]uint32{}}
}

func (k *kernel) PutRow(n uint32, row *bpf.RawStepRow) error { k.rows[n] = *row; return nil }

func (k *kernel) PutEdge(from bpf.RawEdge, row uint32) error { k.edges[from] = row; return nil }

func (k *kernel) DeleteEdge(from bpf.RawEdge) error { delete(k.edges, from); return nil }

// recognise returns the id of a stack, 0 if it was not learned, and how many
// rows it looked at.
func (k *kernel) recognise(s *Snapshot) (id uint64, looked int) {
	return k.recognising(s, func() {})
}

// recognising calls meanwhile whenever user space may change the maps in between.
func (k *kernel) recognising(s *Snapshot, meanwhile func()) (id uint64, looked int) {
	n := k.edges[bpf.RawEdge{From: s.Code, At: s.Depth, Word: s.Caller}]
	for range maxPathRows {
		meanwhile()
		row, ok := k.rows[n&(maxRows-1)]
		meanwhile()
		if n == 0 || !ok || 8*int(row.Words) > s.size() || k.rows[n&(maxRows-1)].Generation != n>>placeBits {
			return 0, looked
		}
		looked++
		wrong := -1
		var word uint64
		for i := range int(row.Count) {
			if word = s.word(row.At[i], int(row.Part>>(4*i)&15)); word != row.Want[i] {
				wrong = i
				break
			}
		}
		switch {
		case wrong >= 0:
			n = k.edges[bpf.RawEdge{From: n, At: isStep | uint32(wrong), Word: word}]
		case row.Next == 0:
			return row.Id, looked
		default:
			n = row.Next
		}
	}
	return 0, looked
}

// word reads the place of a step.
func (s *Snapshot) word(at uint16, part int) uint64 {
	i := int(at &^ relative)
	if i >= fromPlace {
		if n := i - fromPlace; n <= len(s.Rest) {
			return s.from(n)
		}
		return 0
	}
	memory, base := slices.Clone(s.Stack), s.SP
	for n, p := range s.Rest {
		memory = append(memory, p.Memory...)
		if part == n+1 {
			base = p.At
		}
	}
	var w uint64
	if i < savedRegs {
		w = s.Regs[i]
	} else {
		w = binary.LittleEndian.Uint64(memory[8*(i-savedRegs):])
	}
	if at&relative != 0 {
		w -= base
	}
	return w
}

// A program makes stacks. A return address says in which function it is, and
// that where the next one is: a fixed way up, or where a saved frame address points.
type program struct{ *rand.Rand }

const (
	saving    = 5 // the function that saves a frame address
	outermost = 7
	functions = 7 // that are called
)

// stack returns a snapshot of so many frames, and what its unwinding needs.
func (p program) stack(deep int) (s *Snapshot, needs []unwind.Need, frames []int) {
	f := p.IntN(functions)
	s = &Snapshot{SP: 0x7ff000000000 + uint64(p.IntN(8))*64, Code: 1, Caller: uint64(f), Stack: make([]byte, 8192)}
	for i := range s.Stack {
		s.Stack[i] = byte(p.Uint32())
	}
	put := func(at, word uint64, n unwind.Need) {
		binary.LittleEndian.PutUint64(s.Stack[at-s.SP:], word)
		needs = append(needs, n)
	}
	for at := s.SP; f != outermost; at += 8 {
		frames = append(frames, f)
		up := uint64(16 + 8*f)
		if f == saving {
			up = 32 + uint64(p.IntN(3))*16
			put(at, at+up, unwind.Need{Slot: at, Value: at + up - s.SP - returned, Relative: true})
		}
		at += up
		if f = p.IntN(functions); len(frames) >= deep {
			f = outermost
		}
		put(at, uint64(f), unwind.Need{Slot: at, Value: uint64(f)})
	}
	return s, needs, frames
}

// TestLearned teaches stacks as they come, and wants each recognised from then
// on, as itself and never as another.
func TestLearned(t *testing.T) {
	p := program{rand.New(rand.NewPCG(1, 2))}
	k := newKernel()
	l := NewLearned(k)
	byID := map[uint64][]int{}
	hits, rows := 0, 0
	for i := range 20000 {
		s, needs, frames := p.stack(1 + p.IntN(1+p.IntN(1+p.IntN(40))))
		id, looked := k.recognise(s)
		if id != 0 {
			hits++
			rows += looked
			if !slices.Equal(byID[id], frames) {
				t.Fatalf("stack %d was taken for another:\n got %v\nwant %v", i, byID[id], frames)
			}
			continue
		}
		s.ID = uint64(len(byID) + 1)
		byID[s.ID] = frames
		full := l.Full
		if err := l.Add(s, needs); err != nil {
			t.Fatal(err)
		}
		if l.Full > full {
			continue
		}
		if got, _ := k.recognise(s); got != s.ID && !slices.Equal(byID[got], frames) {
			t.Fatalf("stack %d is not recognised after it was learned: %d", i, got)
		}
	}
	t.Logf("%d recognised, %.1f rows looked at for each; %d rows, %d edges, %d odd, %d full", hits, float64(rows)/float64(max(hits, 1)), l.Rows(), len(l.edges), l.Odd, l.Full)
	if hits < 5000 || l.Odd > 0 {
		t.Errorf("%d stacks were recognised, %d did not fit into the tree", hits, l.Odd)
	}
}

// TestForget teaches ever new stacks to a small tree that is given up whenever it is
// full, while stacks are being recognised: none is taken for another, what was
// taught last is recognised, and no more is held than the tree has room for.
func TestForget(t *testing.T) {
	p := program{rand.New(rand.NewPCG(5, 6))}
	k := newKernel()
	l := NewLearned(k)
	l.limit = 64
	l.generation = 1<<(32-placeBits) - 20 // the last ones, after which they begin anew
	byID := map[uint64][]int{}
	var latest []*Snapshot
	hits, between := 0, 0
	learn := func() {
		s, needs, frames := p.stack(1 + p.IntN(30))
		s.ID = uint64(len(byID) + 1)
		byID[s.ID] = frames
		full := l.Full
		if err := l.Add(s, needs); err != nil {
			t.Fatal(err)
		}
		if l.Full == full {
			latest = append(latest, s)
			if id, _ := k.recognise(s); id == 0 || !slices.Equal(byID[id], frames) {
				t.Fatalf("what was just learned is recognised as %d", id)
			}
			return
		}
		if err := l.Forget(); err != nil {
			t.Fatal(err)
		}
		latest = latest[:0]
		if len(k.edges) > 0 || l.Rows() > 0 {
			t.Fatalf("%d edges, %d rows after all was forgotten", len(k.edges), l.Rows())
		}
	}
	for range 2000 {
		learn()
		if len(latest) == 0 {
			continue
		}
		s := latest[p.IntN(len(latest))]
		frames := byID[s.ID]
		id, _ := k.recognising(s, func() {
			if p.IntN(8) == 0 {
				between++
				for range p.IntN(60) {
					learn()
				}
			}
		})
		if id != 0 {
			hits++
			if !slices.Equal(byID[id], frames) {
				t.Fatalf("a stack was taken for another while the tree changed:\n got %v\nwant %v", byID[id], frames)
			}
		}
		if len(l.rows) > l.limit || len(k.rows) > l.limit || len(l.edges) > l.limit {
			t.Fatalf("%d rows, %d in the kernel, %d edges; the limit is %d", len(l.rows), len(k.rows), len(l.edges), l.limit)
		}
	}
	t.Logf("%d recognised, the tree changed %d times in between, %d trees", hits, between, l.Forgotten)
	if hits < 1000 || between < 500 || l.Forgotten < 500 {
		t.Error("too little happened")
	}
}

// TestLearnedUnwound: what real unwinding needed of a stack is what it is recognised
// by, frame addresses included, wherever the stack is.
func TestLearnedUnwound(t *testing.T) {
	const code = 0x400000
	stack := func(sp uint64, noise byte) *Snapshot {
		s := &Snapshot{ID: 7, SP: sp, Code: 1, Caller: code + 0x10, Stack: slices.Repeat([]byte{noise}, 256)}
		s.Regs[fpIndex] = sp + 64
		for _, w := range [][2]uint64{{64, sp + 128}, {72, code + 0x20}, {128, 0}, {136, 0}} {
			binary.LittleEndian.PutUint64(s.Stack[w[0]:], w[1])
		}
		return s
	}
	k := newKernel()
	u := Start(k, nil, 64<<10)
	maps := []Mapping{{Start: code, End: code + 0x1000}}
	if !u.Ask(*stack(0x7ff000001000, 0xaa), maps, nil) {
		t.Fatal("the first snapshot finds no room")
	}
	var answers []Answer
	for len(answers) == 0 {
		answers = u.Answers()
		runtime.Gosched()
	}
	_, err := u.Finish()
	if err != nil || len(answers) != 1 || len(answers[0].Frames) != 2 || answers[0].End != unwind.Complete {
		t.Fatalf("unwound: %+v, %v", answers, err)
	}
	if id, _ := k.recognise(stack(0x7ff000202040, 0x55)); id != 7 {
		t.Error("the same stack elsewhere is not recognised")
	}
	other := stack(0x7ff000202040, 0x55)
	binary.LittleEndian.PutUint64(other.Stack[64:], other.SP+120)
	if id, _ := k.recognise(other); id != 0 {
		t.Error("a stack with another frame address is recognised")
	}
}

// TestLearnedRest: so is one that goes on in another stack, wherever that is.
func TestLearnedRest(t *testing.T) {
	const code = 0x400000
	stack := func(sp, rest uint64, noise byte) *Snapshot {
		s := &Snapshot{ID: 7, SP: sp, Code: 1, Caller: code + 0x10, Depth: 128 | signaled}
		s.Stack = slices.Repeat([]byte{noise}, 128)
		s.Rest = []unwind.Part{{At: rest, Memory: slices.Repeat([]byte{^noise}, 256)}}
		s.Regs[fpIndex] = sp + 64
		for _, w := range [][2]uint64{{64, rest + 40}, {72, code + 0x20}} {
			binary.LittleEndian.PutUint64(s.Stack[w[0]:], w[1])
		}
		for _, w := range [][2]uint64{{40, rest + 128}, {48, code + 0x30}, {128, 0}, {136, 0}} {
			binary.LittleEndian.PutUint64(s.Rest[0].Memory[w[0]:], w[1])
		}
		return s
	}
	k := newKernel()
	u := Start(k, nil, 64<<10)
	if !u.Ask(*stack(0x560000001000, 0x7ff000001000, 0xaa), []Mapping{{Start: code, End: code + 0x1000}}, nil) {
		t.Fatal("no room")
	}
	var answers []Answer
	for len(answers) == 0 {
		answers = u.Answers()
		runtime.Gosched()
	}
	_, err := u.Finish()
	if err != nil || len(answers) != 1 || len(answers[0].Frames) != 3 || answers[0].End != unwind.Complete {
		t.Fatalf("unwound: %+v, %v", answers, err)
	}
	if id, _ := k.recognise(stack(0x570000002040, 0x7ff000001480, 0x55)); id != 7 {
		t.Error("the same stacks elsewhere are not recognised")
	}
	for name, at := range map[string]uint64{"the first stack": 0x570000002040 + 40, "another place": 0x7ff000001480 + 48} {
		other := stack(0x570000002040, 0x7ff000001480, 0x55)
		binary.LittleEndian.PutUint64(other.Stack[64:], at)
		if id, _ := k.recognise(other); id != 0 {
			t.Errorf("one that goes on in %s is recognised", name)
		}
	}
}

// TestCutStacks: a stack that goes on behind its copy is not learned, as the next copy
// may have more of it, unless none can.
func TestCutStacks(t *testing.T) {
	const code, sp = 0x400000, 0x7ff000001000
	maps := []Mapping{{Start: code, End: code + 0x1000}}
	for _, c := range []struct {
		name   string
		depth  uint32
		size   int
		learns bool
	}{
		{"end not known", 0, 1024, false},
		{"end far away", 4096, 1024, false},
		{"longest copy", 0, 256, true},
		{"all of the stack", 256, 1024, true},
	} {
		s := Snapshot{ID: 7, SP: sp, Code: 1, Depth: c.depth, Caller: code + 0x10, Stack: make([]byte, 256)}
		s.Regs[fpIndex] = sp + 64
		binary.LittleEndian.PutUint64(s.Stack[64:], sp+512) // the next frame is not in the copy
		binary.LittleEndian.PutUint64(s.Stack[72:], code+0x20)
		k := newKernel()
		u := Start(k, nil, c.size)
		if !u.Ask(s, maps, nil) {
			t.Fatal("no room")
		}
		var answers []Answer
		for len(answers) == 0 {
			answers = u.Answers()
			runtime.Gosched()
		}
		if _, err := u.Finish(); err != nil || len(answers[0].Frames) != 2 || answers[0].End == unwind.Complete {
			t.Fatalf("%s: %+v, %v", c.name, answers, err)
		}
		if id, _ := k.recognise(&s); (id != 0) != c.learns {
			t.Errorf("%s: recognised as %d", c.name, id)
		}
	}
}
