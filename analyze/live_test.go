package analyze

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tcap-dev/tcap/analyze/internal/synth"
	"github.com/tcap-dev/tcap/format"
)

// capture writes events and opens what was written.
func capture(t testing.TB, perBlock int, write func(w *format.Writer)) *format.Reader {
	t.Helper()
	var buf bytes.Buffer
	w, err := format.NewWriter(&buf, format.Header{Tool: "tcap", Start: format.ClockAnchor{Mono: 1e12, Wall: 1.7e18}}, format.WriterOptions{BlockEvents: perBlock})
	if err != nil {
		t.Fatal(err)
	}
	write(w)
	if err := w.Close(format.Trailer{Reason: "exit"}); err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// A fate is what became of a block, as a test compares it.
type fate struct {
	born uint64 // place of its birth
	at   int64
	how  string
}

// recordingSink keeps the fates of all blocks.
type recordingSink struct{ fates []fate }

func (s *recordingSink) born(*block) {}
func (s *recordingSink) died(b *block, at int64, by uint32) {
	s.fates = append(s.fates, fate{b.ord, at, "died"})
}
func (s *recordingSink) ended(b *block, at int64, how endOfMem) {
	s.fates = append(s.fates, fate{b.ord, at, [...]string{"capture", "exit", "exec"}[how]})
}

// outcome is everything that the matcher finds out.
type outcome struct {
	fates                          []fate
	unknown                        []uint64 // places of frees
	inferred, explained, inherited uint64
}

func (o outcome) leaks() outcome {
	o.fates = slices.DeleteFunc(slices.Clone(o.fates), func(f fate) bool { return f.how == "died" })
	o.explained = 0 // counts what the extractor may drop
	return o
}

func (o outcome) String() string {
	return fmt.Sprint("fates ", o.fates, " unknown ", o.unknown, " inferred ", o.inferred, " explained ", o.explained, " inherited ", o.inherited)
}

func (o *outcome) sort() {
	slices.SortFunc(o.fates, func(a, b fate) int { return cmp.Compare(a.born, b.born) })
	slices.Sort(o.unknown)
}

// match runs the matcher; keep as extractor.keep.
func match(t testing.TB, r *format.Reader, f format.Filter, keep bool) outcome {
	t.Helper()
	sink := &recordingSink{}
	p := newPass(r, f, sink)
	p.ex.keep = keep
	if err := p.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	o := outcome{fates: sink.fates, inferred: p.m.inferred, explained: p.m.explained, inherited: p.m.inherited}
	for _, u := range p.m.unknown {
		o.unknown = append(o.unknown, u.ord)
	}
	o.sort()
	return o
}

// FuzzMatcher compares the matcher with the slow, obvious one, on streams of
// any order and content.
func FuzzMatcher(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed, uint8(seed%20), false)
		f.Add(seed, uint8(seed%20), true)
	}
	f.Fuzz(func(t *testing.T, seed uint64, perBlock uint8, window bool) {
		events := chaos(rand.New(rand.NewPCG(seed, 1)), 120, 5)
		var filter format.Filter
		if window {
			filter.To = events.start + 600
		}
		r := capture(t, int(perBlock)+1, events.write)
		want := naive(t, r, filter)
		if got := match(t, r, filter, true); got.String() != want.String() {
			t.Errorf("seed %d, %d per block:\n got %v\nwant %v", seed, perBlock+1, got, want)
		}
	})
}

// TestMatcherLarge does so on streams with thousands of live blocks, for which
// tables grow, runs of slots are long and operations come in many batches.
func TestMatcherLarge(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 5))
		r := capture(t, 500, chaos(rng, 12_000, 1000<<seed).write)
		if got, want := match(t, r, format.Filter{}, true), naive(t, r, format.Filter{}); got.String() != want.String() {
			t.Errorf("chaos, seed %d: %s", seed, got.differs(want))
		}
		file, _ := synthetic(t, synth.Options{Events: 60_000, Live: 100 << (2 * seed), Seed: seed})
		r = open(t, file)
		want := naive(t, r, format.Filter{})
		if got := match(t, r, format.Filter{}, true); got.String() != want.String() {
			t.Errorf("synthetic, seed %d: %s", seed, got.differs(want))
		}
		if got := match(t, r, format.Filter{}, false).leaks(); got.String() != want.leaks().String() {
			t.Errorf("synthetic, seed %d, thinned out: %s", seed, got.differs(want.leaks()))
		}
	}
}

// differs names the first difference of long outcomes.
func (o outcome) differs(want outcome) string {
	for i, f := range o.fates {
		if i >= len(want.fates) || f != want.fates[i] {
			return fmt.Sprintf("fate %d of %d is %v, want those of %d", i, len(o.fates), f, len(want.fates))
		}
	}
	return fmt.Sprintf("%d fates of %d; unknown %d of %d; inferred %d, explained %d, inherited %d, want %d, %d, %d", len(o.fates), len(want.fates),
		len(o.unknown), len(want.unknown), o.inferred, o.explained, o.inherited, want.inferred, want.explained, want.inherited)
}

// FuzzMatcherLegal does so on streams that a kernel can produce, with some
// events lost, and lets the extractor drop what dies within a block.
func FuzzMatcherLegal(f *testing.F) {
	for seed := range uint64(128) {
		f.Add(seed, uint8(seed%20), uint8(seed%7), seed%3 == 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, perBlock, loss uint8, window bool) {
		events := legal(rand.New(rand.NewPCG(seed, 2)), int(loss))
		var filter format.Filter
		if window {
			filter.To = events.start + 600
		}
		r := capture(t, int(perBlock)+1, events.write)
		want := naive(t, r, filter).leaks()
		if got := match(t, r, filter, false).leaks(); got.String() != want.String() {
			t.Errorf("seed %d, %d per block, loss %d:\n got %v\nwant %v", seed, perBlock+1, loss, got, want)
		}
	})
}

// stream is a list of events and their tasks.
type stream struct {
	start  int64
	events []format.Event
	tasks  []format.Task
}

// write writes the events with a stack each.
func (s *stream) write(w *format.Writer) { s.writeEach(w, true) }

// writeRaw writes the events as they are.
func (s *stream) writeRaw(w *format.Writer) { s.writeEach(w, false) }

func (s *stream) writeEach(w *format.Writer, stacks bool) {
	for i := range s.events {
		e := s.events[i]
		e.Task = w.Task(s.tasks[i])
		switch {
		case !stacks:
		case e.Kind == format.KindAlloc:
			e.V[format.AllocStack] = testStack(w, &e)
		case e.Kind == format.KindRealloc:
			e.V[format.ReallocStack] = testStack(w, &e)
		}
		if err := w.Append(&e); err != nil {
			panic(err)
		}
	}
}

func (s *stream) add(task format.Task, at int64, kind format.Kind, v ...uint64) {
	e := format.Event{Kind: kind, Time: s.start + at}
	copy(e.V[:], v)
	s.events = append(s.events, e)
	s.tasks = append(s.tasks, task)
}

// chaos makes a stream of n events that keeps no rule: few addresses and spaces,
// so that everything collides. A dozen events are of processes.
func chaos(rng *rand.Rand, n, addrs int) *stream {
	s := &stream{start: 1e12}
	task := func() format.Task {
		pid := uint32(rng.IntN(3) + 1)
		return format.Task{Pid: pid, Tid: pid, Space: uint32(rng.IntN(4))}
	}
	addr := func() uint64 { return uint64(rng.IntN(addrs)+1) * 16 }
	for i := range n {
		at := int64(i*10 + rng.IntN(30))
		what := rng.IntN(40)
		if what >= 36 && rng.IntN(n/120) != 0 {
			what = rng.IntN(36)
		}
		switch {
		case what < 16:
			s.add(task(), at, format.KindAlloc, addr(), uint64(rng.IntN(100)))
		case what < 28:
			s.add(task(), at, format.KindFree, addr())
		case what < 36:
			s.add(task(), at, format.KindRealloc, addr()-16, addr(), uint64(rng.IntN(100)), 0, 0, uint64(rng.IntN(60)))
		case what < 38:
			pid, shared, thread := uint64(rng.IntN(3)+1), uint64(rng.IntN(2)), uint64(rng.IntN(4)/3)
			s.add(task(), at, format.KindFork, pid, pid, uint64(rng.IntN(6)), shared, thread)
		case what < 39:
			s.add(task(), at, format.KindExec, 0, uint64(rng.IntN(8)))
		default:
			s.add(task(), at, format.KindExit, 0, uint64(rng.IntN(2)))
		}
	}
	return s
}

// naive does what the matcher does, by copying whole address spaces and
// looking at one event after the other.
func naive(t testing.TB, r *format.Reader, f format.Filter) outcome {
	t.Helper()
	n := &naiveMatcher{spaces: map[uint64]*naiveSpace{}, procs: map[uint32]uint64{}, to: newSelection(r, f).to}
	var end int64
	for e, err := range r.Events(format.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		end = max(end, e.Time)
		n.event(r.Task(e.Task), e)
	}
	end = min(max(end, r.Header().Start.Mono), n.to)
	for _, s := range n.spaces {
		for _, b := range s.live {
			n.fates = append(n.fates, fate{b.ord, end, "capture"})
		}
		for _, d := range s.displaced {
			n.inferred++
			n.fates = append(n.fates, fate{d.ord, d.at, "died"})
		}
	}
	n.sort()
	return n.outcome
}

type naiveBlock struct {
	addr, ord uint64
	birth     int64
}

type naiveDisplaced struct {
	naiveBlock
	at int64 // when the next block was born there
}

type naiveSpace struct {
	live      map[uint64]naiveBlock
	displaced []naiveDisplaced
	inherited map[uint64]bool // still there
	forked    bool
	gone      bool
	sharers   map[uint32]bool
}

type naiveMatcher struct {
	outcome
	to     int64
	spaces map[uint64]*naiveSpace
	procs  map[uint32]uint64
}

func (n *naiveMatcher) space(key uint64) *naiveSpace {
	if n.spaces[key] == nil {
		n.spaces[key] = &naiveSpace{live: map[uint64]naiveBlock{}, inherited: map[uint64]bool{}, sharers: map[uint32]bool{}}
	}
	return n.spaces[key]
}

func (n *naiveMatcher) event(task format.Task, e *format.Event) {
	key := spaceKey(task.Space, task.Pid)
	s := n.space(key)
	v := &e.V
	switch {
	case e.Kind == format.KindRealloc:
		if v[format.ReallocOld] != 0 {
			n.death(s, v[format.ReallocOld], e.Time-int64(v[format.ReallocDuration]), e.Seq, true)
		}
		if v[format.ReallocAddr] != 0 && e.Time <= n.to {
			n.birth(s, naiveBlock{addr: v[format.ReallocAddr], birth: e.Time, ord: e.Seq})
		}
	case e.Time > n.to:
	case e.Kind == format.KindAlloc:
		n.birth(s, naiveBlock{addr: v[format.AllocAddr], birth: e.Time, ord: e.Seq})
	case e.Kind == format.KindFree:
		n.death(s, v[format.FreeAddr], e.Time, e.Seq, false)
	case e.Kind == format.KindFork:
		n.fork(s, key, task.Pid, v)
	case e.Kind == format.KindExec:
		next := spaceKey(uint32(v[format.ExecSpace]), task.Pid)
		old := key
		if next == key {
			var ok bool
			if old, ok = n.procs[task.Pid]; !ok || old == next {
				return
			}
		}
		n.procs[task.Pid] = next
		delete(n.space(old).sharers, task.Pid)
		if len(n.space(old).sharers) == 0 {
			n.end(n.space(old), e.Time, "exec")
		}
	case e.Kind == format.KindExit:
		delete(n.procs, task.Pid)
		delete(s.sharers, task.Pid)
		if v[format.ExitSpaceGone] != 0 {
			n.end(s, e.Time, "exit")
		}
	}
}

func (n *naiveMatcher) birth(s *naiveSpace, b naiveBlock) {
	if old, ok := s.live[b.addr]; ok {
		s.displaced = append(s.displaced, naiveDisplaced{old, b.birth})
	}
	s.live[b.addr] = b
}

func (n *naiveMatcher) death(s *naiveSpace, addr uint64, at int64, ord uint64, realloc bool) {
	if at > n.to {
		return
	}
	held := -1
	for i, d := range s.displaced {
		if d.addr == addr && d.birth <= at && d.at >= at {
			held = i
		}
	}
	b, ok := s.live[addr]
	if ok && b.birth <= at && !(realloc && held >= 0 && b.birth == at) {
		delete(s.live, addr)
		n.fates = append(n.fates, fate{b.ord, at, "died"})
		return
	}
	if held >= 0 {
		n.explained++
		n.fates = append(n.fates, fate{s.displaced[held].ord, at, "died"})
		s.displaced = slices.Delete(s.displaced, held, held+1)
		return
	}
	if s.inherited[addr] {
		s.inherited[addr] = false
		n.outcome.inherited++
		return
	}
	n.unknown = append(n.unknown, ord)
}

func (n *naiveMatcher) fork(s *naiveSpace, key uint64, pid uint32, v *[format.MaxFields]uint64) {
	if v[format.ForkThread] != 0 {
		return
	}
	childPid := uint32(v[format.ForkChildPid])
	if v[format.ForkSharedVM] != 0 {
		if len(s.sharers) == 0 {
			s.sharers[pid] = true
		}
		s.sharers[childPid] = true
		n.procs[childPid] = key
		return
	}
	childKey := spaceKey(uint32(v[format.ForkChildSpace]), childPid)
	n.procs[childPid] = childKey
	child := n.space(childKey)
	if child == s || child.forked || child.gone || s.gone {
		return
	}
	child.forked = true
	for addr, there := range s.inherited {
		if _, freed := child.inherited[addr]; there && !freed {
			child.inherited[addr] = true
		}
	}
	for addr := range s.live {
		if _, freed := child.inherited[addr]; !freed {
			child.inherited[addr] = true
		}
	}
}

func (n *naiveMatcher) end(s *naiveSpace, at int64, how string) {
	if s.gone {
		return
	}
	s.gone, s.sharers = true, map[uint32]bool{}
	for _, b := range s.live {
		n.fates = append(n.fates, fate{b.ord, at, how})
	}
	s.live = map[uint64]naiveBlock{}
	s.inherited = map[uint64]bool{}
}
