package capture

import (
	"io"
	"syscall"
	"time"

	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/capture/pack"
)

// Options say what to record and where to.
type Options struct {
	Output string // path of the capture
	Force  bool   // overwrite it if it is there

	Pids    []int    // processes to follow
	Comms   []string // names whose processes are followed, now and when they appear
	Command []string // a program to run and follow

	Packs    []string      // names of packs; none: all that suit the targets
	Probes   []Probe       // declared probes; with Packs, what is recorded beside them
	Apps     []*pack.Pack  // applications, whose probes are declared too
	NoApps   bool          // without Packs, Probes and Apps: only what tcap records by itself, not the packs whose program runs
	Duration time.Duration // 0: until the targets end or the context does
	MaxSize  int64         // bytes of the file at which recording ends; 0: no limit
	RingSize int           // bytes of the ring, rounded up to a power of two of pages; 0: what suits the packs
	Stacks   string        // how stacks are taken, one of the Stacks constants; "": StacksAuto
	// StackSize is how many bytes of a stack are copied at most, for
	// StacksDwarf; 0: DefaultStackSize.
	StackSize int
	// Unwind says when stacks are unwound, for StacksDwarf: one of the Unwind
	// constants; "": UnwindOnline.
	Unwind string
	// AppStacks takes stacks at the probes of Apps as well, which do not ask for them.
	AppStacks bool
	// KernelStacks takes the kernel's stack at changes of TCP states, at
	// retransmissions and resets.
	KernelStacks bool
	// DebugDirs are searched for separate debug files before /usr/lib/debug.
	DebugDirs []string

	Version  string    // of tcap, for the header
	Args     []string  // how tcap was called, for the header
	Stderr   io.Writer // warnings and remarks, a line each; one that blocks does not hold up the recording
	Announce bool      // say on Stderr when recording begins, unless a command does with it
	// Ready, when set, is called when recording has begun, before a command is let go. An
	// error ends the recording.
	Ready func() error
	// Progress, when set, is called a few times a second, by the goroutine that
	// writes to Stderr. While a call lasts, others are left out.
	Progress func(Summary)
	// Interrupts, when set, delivers what the user sends while the command
	// runs: the first of them lets the command end by itself, the second ends
	// the recording.
	Interrupts <-chan Interrupt

	auto bool // Probes are those of running programs, which nobody asked for
}

// A Probe is a declared probe that is to be recorded.
type Probe struct {
	Name     string         // as the capture shows it; "": the place
	Pack     string         // where it comes from; "": the command line
	Role     string         // what it means to an analysis
	Decl     *declare.Probe //
	Optional bool           // that it cannot be had is a warning
	BuiltIn  bool           // of a pack that tcap comes with
	Checks   []pack.Check   // what its first calls must look like

	open string // the pack's program as this process opens it; "": by Decl's path
}

// An OptionError is the error of options that make no sense together or at all,
// whatever the machine.
type OptionError struct{ Err error }

func (e *OptionError) Error() string { return e.Err.Error() }
func (e *OptionError) Unwrap() error { return e.Err }

// An Interrupt is a request to end the recording.
type Interrupt struct {
	Signal syscall.Signal // to hand on to the command; 0 when it has got it already, as by Ctrl-C in a terminal
}

// Ways to take stacks.
const (
	StacksAuto  = "auto"  // by call frame information where that works, else by frame pointers
	StacksDwarf = "dwarf" // by call frame information
	StacksFP    = "fp"    // by frame pointers
	StacksNone  = "none"  // none
)

// When stacks are unwound.
const (
	UnwindOnline = "online" // beside the recording
	// UnwindOffline keeps copies of stacks in the capture, with whatever the
	// program had there, for `tcap symbolize` to unwind.
	UnwindOffline = "offline"
)

// DefaultRingSize holds about half a second of the fastest allocation stream
// that probes let through (64 MiB).
const DefaultRingSize = 64 << 20

// ConnectionsRingSize is the part of a CPU in the ring of a recording of TCP alone: a
// fifth of a second of the most connections that a CPU can open and close, 20,000
// with both ends, 1.2 KiB each. No such ring is above [DefaultRingSize].
const ConnectionsRingSize = 4 << 20

const (
	// DefaultStackSize is all that there can be: what is no stack is not copied.
	DefaultStackSize = MaxStackSize
	// MaxStackSize is MAX_STACK_BYTES of bpf/event.h.
	MaxStackSize = 248 << 10
)

// A Summary says how a recording went.
type Summary struct {
	Path       string
	Events     uint64
	Lost       uint64 // events that the kernel had no room for
	Unwritten  uint64 // events, not among Events, that could not be written; known at the end
	Bytes      int64  // size of the file
	Duration   time.Duration
	Reason     string // why it ended: one of the End constants
	ExitStatus int    // of the command, as a shell would give it; 0 without one
	Running    int    // pid of a command that was left running; 0 if none was
}

// A CommandError says that the command to record could not be run.
type CommandError struct {
	Name string
	Err  error
}

func (e *CommandError) Error() string { return "run " + e.Name + ": " + e.Err.Error() }

// Unwrap returns the cause, which wraps fs.ErrNotExist or exec.ErrNotFound when
// there is no such program.
func (e *CommandError) Unwrap() error { return e.Err }

// Why a recording ended.
const (
	EndCommand   = "command exited"
	EndTargets   = "last target exited"
	EndDuration  = "duration reached"
	EndSize      = "size limit reached"
	EndInterrupt = "interrupted"
	EndWrite     = "write error"
	EndKernel    = "kernel unreadable" // the ring or the counters of losses
)
