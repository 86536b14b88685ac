package snapshot

import (
	"slices"
	"sync"
	"time"

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

	stackSize int // bytes of a copy, at most

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []question
	bytes   int // of waiting
	answers []Answer
	forget  bool // what was learned, before anything else is
	full    bool // the tree found no room for a stack
	closed  bool
	work    Work
	err     error
	done    chan struct{}

	memory []byte // of the snapshot that is being unwound
}

type question struct {
	snap  Snapshot
	maps  []Mapping
	owner any
}

// Start begins to unwind. What is learned goes to the store. debugDirs are searched for
// separate debug files, and last the system's.
// Of a stack, stackSize bytes are copied at most.
func Start(store Store, debugDirs []string, stackSize int) *Unwinding {
	u := &Unwinding{learned: NewLearned(store), walker: NewWalker(debugDirs), limit: maxWaiting, stackSize: stackSize, done: make(chan struct{})}
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
	if u.bytes+s.room() > u.limit {
		return false
	}
	s.packed = slices.Clone(s.packed)
	u.bytes += s.room()
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

// Forget makes the kernel forget the stacks that were learned so far, so that it learns
// what comes from now on. [Unwinding.Forgotten] tells when it has.
func (u *Unwinding) Forget() {
	u.mu.Lock()
	u.forget, u.full = true, false
	u.mu.Unlock()
	u.wake.Signal()
}

// Forgotten reports whether the kernel has forgotten all that it was to forget.
func (u *Unwinding) Forgotten() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.forget
}

// Full reports whether a stack found no room since the last Forget.
func (u *Unwinding) Full() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.full
}

// Work is what unwinding took so far.
type Work struct {
	Stacks, Frames uint64
	Time           time.Duration // that the unwinder worked
	Cold           uint64        // frames at an address that was not known yet
}

// Work returns what unwinding took so far.
func (u *Unwinding) Work() Work {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.work
}

// Counts tells how many stacks the kernel was taught, and how many it could not
// be: for want of room, and because they are odd. After Finish only.
func (u *Unwinding) Counts() (rows int, full, odd uint64) {
	return u.learned.Rows(), u.learned.Full, u.learned.Odd
}

func (u *Unwinding) run() {
	defer close(u.done)
	for {
		u.mu.Lock()
		for len(u.waiting) == 0 && !u.closed && !u.forget {
			u.wake.Wait()
		}
		batch := u.waiting
		u.waiting = nil
		done := u.closed && batch == nil
		u.mu.Unlock()
		u.forgetNow()
		if done {
			return
		}
		for i := range batch {
			begun, room := time.Now(), batch[i].snap.room()
			a := u.answer(&batch[i])
			took := time.Since(begun)
			u.mu.Lock()
			u.work.Stacks, u.work.Frames, u.work.Time = u.work.Stacks+1, u.work.Frames+uint64(len(a.Frames)), u.work.Time+took
			u.work.Cold = u.walker.unwind.Decoded()
			u.bytes -= room
			u.answers = append(u.answers, a)
			u.mu.Unlock()
			batch[i] = question{}
			u.forgetNow()
		}
	}
}

// forgetNow does what Forget asked for.
func (u *Unwinding) forgetNow() {
	u.mu.Lock()
	asked := u.forget && !u.closed
	u.mu.Unlock()
	if !asked {
		return
	}
	if err := u.learned.Forget(); err != nil && u.err == nil {
		u.err = err
	}
	u.mu.Lock()
	u.forget = false
	u.mu.Unlock()
}

// answer unwinds a snapshot, and teaches the kernel.
func (u *Unwinding) answer(q *question) Answer {
	u.memory = q.snap.Unpack(u.memory)
	frames, end, made := u.walker.Walk(q.maps, q.snap.State(nil))
	// A return address where no code is may be some tomorrow, and frames beyond
	// the copy may be in the next, if that can be longer: what was the same up to there says nothing.
	// Code that a program made itself may be other code tomorrow, untold.
	lasting := end != unwind.NoCode && !made && (!u.walker.unwind.Cut() || q.snap.whole(u.stackSize))
	if needs, ok := u.walker.unwind.Needs(); ok && u.err == nil && lasting && !u.isClosed() {
		full := u.learned.Full
		u.err = u.learned.Add(&q.snap, needs)
		if u.learned.Full > full {
			u.mu.Lock()
			u.full = true
			u.mu.Unlock()
		}
	}
	return Answer{ID: q.snap.ID, Frames: frames, End: end, Maps: q.maps, Owner: q.owner}
}

// isClosed reports whether nothing more will come.
func (u *Unwinding) isClosed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.closed
}
