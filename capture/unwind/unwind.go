package unwind

// Options limit and direct an [Unwinder]. The zero value uses the defaults.
type Options struct {
	// DebugDirs are searched for separate debug files, in order.
	// Nil means /usr/lib/debug; an empty slice means none.
	DebugDirs []string
	// MaxSectionBytes bounds each section that is read; 0 means 64 MiB.
	MaxSectionBytes int64
	// MaxCacheBytes bounds what is kept of all modules together; 0 means 256
	// MiB. When it is passed, the tables of the module that was used longest
	// ago are dropped, and read again when needed. The module in use is kept,
	// so the peak is this plus one module.
	MaxCacheBytes int64
}

// Unwinder unwinds snapshots of stacks. It and its modules serve one goroutine.
type Unwinder struct {
	opts    Options
	machine machineState
	walk    walk
	clock   uint64    // stacks unwound
	loaded  []*Module // those with tables
	bytes   int64     // of all their tables
	work    int       // what decoding may still cost for the present stack
	decoded uint64    // addresses
}

// Decoded counts the addresses whose rules were looked up in a file's tables, as
// they were not known yet.
func (u *Unwinder) Decoded() uint64 { return u.decoded }

// maxWork bounds the call frame instructions that are executed for one stack,
// which crafted tables could make as many as frames times maxInstructions. A
// stack all of whose addresses are new takes about 20 for each.
const maxWork = 1 << 20

// New returns an unwinder.
func New(opts Options) *Unwinder {
	if opts.DebugDirs == nil {
		opts.DebugDirs = []string{"/usr/lib/debug"}
	}
	if opts.MaxSectionBytes <= 0 {
		opts.MaxSectionBytes = 64 << 20
	}
	if opts.MaxCacheBytes <= 0 {
		opts.MaxCacheBytes = 256 << 20
	}
	return &Unwinder{opts: opts}
}

// Space tells what code is where in one process.
type Space interface {
	// Code returns the executable mapping that holds addr. Of anonymous
	// memory and of files that are not at hand, Module is nil.
	Code(addr uint64) (Mapping, bool)
}

// Mapping is executable memory.
type Mapping struct {
	Start, End uint64  // addresses; End is the first after
	Offset     uint64  // of Start in the file, in bytes
	Module     *Module // from [Unwinder.Load]; for the vdso, Load its image
}

// Point tells what the place is where a snapshot was taken.
type Point uint8

const (
	// Inside is anywhere: PC is the next instruction.
	Inside Point = iota
	// Entry is before a function has changed the stack: the return address
	// is on its top on amd64, in LR on arm64. No rule is needed for the
	// first step.
	Entry
	// Returned is behind a call: PC is the address that was returned to,
	// and its frame's, not the callee's.
	Returned
)

// Snapshot is what is known of a thread when it was stopped.
type Snapshot struct {
	Arch  Arch
	Point Point
	// PC, SP and FP (rbp, x29) are needed; LR (x30) is, on arm64.
	PC, SP, FP, LR uint64
	// Regs are the registers that a call preserves, where they were
	// recorded: rbx, r12 to r15; x19 to x28. Nil means unknown, which
	// few frames need.
	Regs []uint64
	// Stack is memory from SP upwards.
	Stack []byte
	// Rest is what this stack goes on in: where a signal that has a stack of its own came, or
	// the other pieces of a split stack.
	Rest []Part
	// Returns are the return addresses that a uretprobe has replaced, in
	// any order.
	Returns []Return
	// Trampoline is what it has put there; 0 where that is not known: then
	// a slot of Returns always has the address named there.
	Trampoline uint64
}

// A Part is memory from At upwards.
type Part struct {
	At     uint64
	Memory []byte
}

// Return is a return address that is not on the stack any more.
type Return struct {
	Slot uint64 // address on the stack where it was
	PC   uint64
}

// Method tells how a frame was found from the one that it called.
type Method uint8

const (
	First        Method = iota // it was not: the snapshot names it
	CFI                        // call frame information, or what the ABI says of a function's entry
	GoTable                    // a Go program's own table
	Code                       // nothing described the callee, its code was followed to its return
	FramePointer               // nothing described the callee, its frame pointer proved plausible
)

// Frame is one function of a stack.
type Frame struct {
	// PC is the address in it: of the instruction that runs, or, if
	// IsReturn, of the one behind the call.
	PC       uint64
	IsReturn bool
	Method   Method
}

// End tells why a stack has no more frames.
type End uint8

const (
	// Complete is the start of the process or the thread.
	Complete End = 1 + iota
	// SnapshotEnd is a frame whose caller lies beyond the bytes of the
	// snapshot.
	SnapshotEnd
	// NoRule is code that nothing describes: hand-written assembly, a
	// library without call frame information, a JIT compiler's output.
	NoRule
	// NoCode is a return address where no code is.
	NoCode
	// Switched is code that came from another stack, as in a Go program that
	// calls C, or a signal handler with a stack of its own: who called it is
	// written there.
	Switched
	// BadStep is a rule that leads nowhere: damaged, or not meant for what
	// is on the stack.
	BadStep
	// Limit is more frames than there was room for.
	Limit
)

func (e End) String() string {
	switch e {
	case Complete:
		return "complete"
	case SnapshotEnd:
		return "the snapshot ends"
	case NoRule:
		return "no unwind information"
	case NoCode:
		return "no code at the return address"
	case Switched:
		return "the stack was switched"
	case BadStep:
		return "the unwind information does not fit the stack"
	case Limit:
		return "too many frames"
	}
	return "unknown"
}

// Unwind appends the frames of a snapshot to out, innermost first, as far as
// its capacity if it has any left, or 512, and tells why there are no more. The
// first frame is the snapshot's own.
func (u *Unwinder) Unwind(space Space, snap *Snapshot, out []Frame) ([]Frame, End) {
	if snap.Arch != AMD64 && snap.Arch != ARM64 {
		return out, BadStep
	}
	u.clock, u.work = u.clock+1, maxWork
	w := &u.walk
	w.start(space, snap)
	limit := cap(out)
	if len(out) == limit {
		limit += defaultFrames
	}
	out = append(out, Frame{PC: w.pc, IsReturn: w.isReturn})
	for {
		method, end := w.step()
		switch {
		case u.work < 0:
			end = BadStep
		case w.away && (end == SnapshotEnd || end == BadStep):
			end = Switched
		}
		if w.crossed {
			// It is no call that returns to the code behind a signal handler.
			out[len(out)-1].IsReturn = false
		}
		if end != 0 {
			return out, end
		}
		if len(out) == limit {
			return out, Limit
		}
		out = append(out, Frame{PC: w.pc, IsReturn: w.isReturn, Method: method})
	}
}

const defaultFrames = 512
