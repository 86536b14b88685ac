package snapshot

import (
	"os"
	"sync"

	"github.com/tcap-dev/tcap/capture/unwind"
)

// A File is an executable file that is mapped somewhere. Its address is its identity.
type File struct {
	Path  string
	Owner any                      // who asks for it
	Open  func() (*os.File, error) // nil if it is not at hand
}

// A Mapping is executable memory; File is nil if it is no file's.
type Mapping struct {
	Start, End uint64
	Offset     uint64 // of Start in the file
	File       *File
}

// An Answer is an unwound stack.
type Answer struct {
	ID     uint64
	Frames []unwind.Frame // innermost, the caller, first
	End    unwind.End
	Maps   []Mapping // that were there
	Owner  any       // as it was asked for
}

// maxWaiting bounds the snapshots that wait, bytes.
const maxWaiting = 64 << 20

// Unwinding unwinds snapshots in a goroutine of its own, which its Finish ends.
type Unwinding struct {
	learned *Learned
	unwind  *unwind.Unwinder
	files   map[*File]*unwind.Module
	opened  []*os.File
	limit   int

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []question
	bytes   int // of waiting
	answers []Answer
	closed  bool
	err     error
	done    chan struct{}
}

type question struct {
	snap  Snapshot
	maps  []Mapping
	owner any
}

// Start begins to unwind. What is learned goes to the store.
func Start(store Store) *Unwinding {
	u := &Unwinding{
		learned: NewLearned(store), unwind: unwind.New(unwind.Options{}), files: map[*File]*unwind.Module{},
		limit: maxWaiting, done: make(chan struct{}),
	}
	u.wake = sync.NewCond(&u.mu)
	go u.run()
	return u
}

// Ask wants a snapshot unwound, whose memory it copies, with what was mapped
// when it was taken; maps must not change any more. The answer has the owner. It reports false, and drops the
// snapshot, if too many wait.
func (u *Unwinding) Ask(s Snapshot, maps []Mapping, owner any) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bytes+len(s.Stack) > u.limit {
		return false
	}
	s.Stack = append([]byte(nil), s.Stack...)
	u.bytes += len(s.Stack)
	u.waiting = append(u.waiting, question{s, maps, owner})
	u.wake.Signal()
	return true
}

// Answers returns what was unwound since the last time.
func (u *Unwinding) Answers() []Answer {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.answers
	u.answers = nil
	return a
}

// Finish unwinds what still waits, ends the goroutine and returns the rest of the
// answers. The error is that of the first stack that the kernel could not be taught.
func (u *Unwinding) Finish() ([]Answer, error) {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	u.wake.Signal()
	<-u.done
	for _, f := range u.opened {
		f.Close()
	}
	return u.Answers(), u.err
}

// Counts tells how many stacks the kernel was taught, and how many it could not
// be: for want of room, and because they are odd. After Finish only.
func (u *Unwinding) Counts() (rows int, full, odd uint64) {
	return len(u.learned.rows) - 1, u.learned.Full, u.learned.Odd
}

func (u *Unwinding) run() {
	defer close(u.done)
	for {
		u.mu.Lock()
		for len(u.waiting) == 0 && !u.closed {
			u.wake.Wait()
		}
		batch := u.waiting
		u.waiting = nil
		u.mu.Unlock()
		if batch == nil {
			return
		}
		for i := range batch {
			a := u.answer(&batch[i])
			u.mu.Lock()
			u.bytes -= len(batch[i].snap.Stack)
			u.answers = append(u.answers, a)
			u.mu.Unlock()
			batch[i] = question{}
		}
	}
}

// answer unwinds a snapshot, and teaches the kernel.
func (u *Unwinding) answer(q *question) Answer {
	var in unwind.Snapshot
	q.snap.prepare(nativeArch, &in)
	code := &space{u: u, maps: q.maps, first: q.snap.First()}
	frames, end := u.unwind.Unwind(code, &in, nil)
	// A return address where no code is may be some tomorrow, and frames beyond
	// the copy may be in the next: what was the same up to there says nothing.
	// Code that a program made itself may be other code tomorrow, untold.
	lasting := end != unwind.NoCode && !code.made
	if needs, ok := u.unwind.Needs(); ok && u.err == nil && lasting && !u.isClosed() {
		u.err = u.learned.Add(&q.snap, needs)
	}
	return Answer{ID: q.snap.ID, Frames: frames, End: end, Maps: q.maps, Owner: q.owner}
}

// isClosed reports whether nothing more will come.
func (u *Unwinding) isClosed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.closed
}

// A space is an address space as the unwinder asks for it.
type space struct {
	u     *Unwinding
	maps  []Mapping
	first uint64 // the first frame, which is no guess
	made  bool   // from code that the program made itself
}

// Code finds an address. What called a function, or was running, is code, in whatever memory it
// is; an address further out may be a mistake.
func (s *space) Code(addr uint64) (unwind.Mapping, bool) {
	for i := range s.maps {
		if m := &s.maps[i]; addr-m.Start < m.End-m.Start {
			return unwind.Mapping{Start: m.Start, End: m.End, Offset: m.Offset, Module: s.u.module(m.File)}, true
		}
	}
	const page = 1 << 12
	if start := s.first &^ (page - 1); s.first != 0 && addr-start < page {
		s.made = true
		return unwind.Mapping{Start: start, End: start + page}, true
	}
	return unwind.Mapping{}, false
}

// module loads a file once.
func (u *Unwinding) module(f *File) *unwind.Module {
	if f == nil {
		return nil
	}
	m, ok := u.files[f]
	if !ok {
		if f.Open != nil {
			if r, err := f.Open(); err == nil {
				u.opened = append(u.opened, r)
				m = u.unwind.Load(r, f.Path)
			}
		}
		u.files[f] = m
	}
	return m
}
