package snapshot

import (
	"sync"

	"github.com/tcap-dev/tcap/capture/unwind"
)

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
	walker  *Walker
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

// Start begins to unwind. What is learned goes to the store. debugDirs are searched for
// separate debug files, and last the system's.
func Start(store Store, debugDirs []string) *Unwinding {
	u := &Unwinding{learned: NewLearned(store), walker: NewWalker(debugDirs), limit: maxWaiting, done: make(chan struct{})}
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
	u.walker.Close()
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
	frames, end, made := u.walker.Walk(q.maps, q.snap.State(nil))
	// A return address where no code is may be some tomorrow, and frames beyond
	// the copy may be in the next: what was the same up to there says nothing.
	// Code that a program made itself may be other code tomorrow, untold.
	lasting := end != unwind.NoCode && !made
	if needs, ok := u.walker.unwind.Needs(); ok && u.err == nil && lasting && !u.isClosed() {
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
