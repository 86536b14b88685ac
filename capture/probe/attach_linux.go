package probe

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/tracefs"
)

// groupPrefix starts the name of every trace event group of a recorder:
// tcap_PID_SUFFIX.
const groupPrefix = "tcap"

// removeTimeout bounds the wait for the kernel to finish closing a probe's
// perf events before its definition can go.
const removeTimeout = 2 * time.Second

// Attacher attaches BPF programs to user-space probes of a set of target
// processes.
//
// Each probe is a trace event in tracefs. One perf event on it, the anchor,
// belongs to this process and carries the program and its cookie. Further
// perf events, one per thread of the targets, carry nothing: they are the
// filter that tells the kernel which address spaces get the breakpoint, and
// because they are inherited by whatever the thread forks or clones, children
// are followed without a gap (uprobe_perf_open in kernel/trace/trace_uprobe.c:
// fork copies the breakpoints, exec sets them anew). The program must not be
// attached to an inherited event, since the first child's exit would detach it.
//
// Everything but the inert definition goes when the process dies, however it
// dies; definitions of dead recorders are removed by the next NewAttacher.
//
// Where trace events cannot be defined, the Attacher opens a uprobe of the
// perf PMU per process instead, which needs only CAP_PERFMON but does not
// follow forks.
type Attacher struct {
	fs    *tracefs.FS // nil: PMU fallback
	group string

	mu      sync.Mutex
	next    int // number of the next event
	list    []*Attachment
	byPlace map[place]*Attachment
	targets []*target
}

// place identifies where which program runs.
type place struct {
	file   fileKey
	offset uint64
	ret    bool
	prog   *ebpf.Program
}

// Attachment is a program attached at a point. Its methods are safe to call
// after the Attacher was closed.
type Attachment struct {
	a      *Attacher
	point  Point
	place  place
	prog   *ebpf.Program
	cookie uint64

	event   string      // name in tracefs
	id      uint64      // of the trace event
	anchor  int         // perf event
	link    int         // BPF link on the anchor
	filters []int       // perf events of the targets' threads
	pmu     []link.Link // fallback: one per target
	closed  bool
}

// NewAttacher returns an Attacher without probes or targets. fs stays the
// caller's and must outlive the Attacher; nil, or one in which nothing can be
// defined, selects the fallback. Definitions left behind by recorders that
// were killed are removed.
func NewAttacher(fs *tracefs.FS) (*Attacher, error) {
	a := &Attacher{byPlace: map[place]*Attachment{}}
	if fs == nil || fs.ReadOnly() != nil {
		return a, nil
	}
	if _, err := fs.RemoveStale(groupPrefix); err != nil {
		return nil, fmt.Errorf("remove the probes of dead recorders: %w", err)
	}
	a.fs = fs
	a.group = fmt.Sprintf("%s_%d_%x", groupPrefix, os.Getpid(), time.Now().UnixNano())
	return a, nil
}

// FollowsFork reports whether children that a target starts are recorded too.
func (a *Attacher) FollowsFork() bool { return a.fs != nil }

// Attach runs prog on every hit of the point in the targets, present and
// future ones. A program that is already attached there is not attached
// twice: the Attachment of the first call is returned, with its cookie.
//
// The caller keeps prog open. If the probe is set in some targets only, both
// an Attachment and an error are returned.
func (a *Attacher) Attach(point Point, prog *ebpf.Program, cookie uint64) (*Attachment, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	file, err := os.Open(point.Path)
	if err != nil {
		return nil, fmt.Errorf("attach %v: open the ELF file: %w", point, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("attach %v: %w", point, err)
	}
	where := place{keyOf(info), point.Offset, point.Return, prog}
	if att := a.byPlace[where]; att != nil {
		return att, nil
	}
	att := &Attachment{a: a, point: point, place: where, prog: prog, cookie: cookie,
		anchor: -1, link: -1}
	if a.fs != nil {
		if err := att.define(file); err != nil {
			att.release()
			return nil, fmt.Errorf("attach %v: %w", point, err)
		}
	}
	a.byPlace[where] = att
	a.list = append(a.list, att)
	var errs []error
	for _, t := range a.targets {
		errs = append(errs, t.coverAll([]*Attachment{att}))
	}
	if err := errors.Join(errs...); err != nil {
		return att, fmt.Errorf("attach %v: %w", point, err)
	}
	return att, nil
}

// define creates the trace event and the anchor that carries the program.
func (att *Attachment) define(file *os.File) error {
	a := att.a
	// Through the descriptor, the kernel finds the file whatever its name
	// contains, in whichever mount namespace it is, deleted or not.
	path := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	event := "p" + strconv.Itoa(a.next)
	a.next++
	if err := a.fs.AddUprobe(a.group, event, path, att.point.Offset, att.point.Return); err != nil {
		return err
	}
	att.event = event
	var err error
	if att.id, err = a.fs.EventID(a.group, event); err != nil {
		return err
	}
	// The anchor filters for this very process, which is harmless: the
	// recorder runs none of the probed code.
	if att.anchor, err = openEvent(att.id, os.Getpid(), false); err != nil {
		return fmt.Errorf("open the probe: %w", explainOpen(err, 1, 1))
	}
	att.link, err = linkProgram(att.anchor, att.prog, att.cookie)
	return err
}

// Point returns where the program runs, and why there.
func (att *Attachment) Point() Point { return att.point }

// Cookie returns the number that the program gets from bpf_get_attach_cookie.
func (att *Attachment) Cookie() uint64 { return att.cookie }

// Close detaches the program and removes the probe.
func (att *Attachment) Close() error {
	a := att.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if att.closed {
		return nil
	}
	delete(a.byPlace, att.place)
	for i := range a.list {
		if a.list[i] == att {
			a.list = append(a.list[:i], a.list[i+1:]...)
			break
		}
	}
	att.detach()
	return att.remove()
}

// Attachments returns what is attached now, in the order of the calls.
func (a *Attacher) Attachments() []*Attachment {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*Attachment(nil), a.list...)
}

// Close detaches everything: the targets run at full speed again when it
// returns.
func (a *Attacher) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, att := range a.list {
		att.detach()
	}
	var errs []error
	for _, att := range a.list {
		errs = append(errs, att.remove())
	}
	a.list, a.targets = nil, nil
	clear(a.byPlace)
	return errors.Join(errs...)
}

// release undoes a half-made attachment, whose error the caller reports.
func (att *Attachment) release() {
	att.detach()
	_ = att.remove() // the definition is inert, and the next recorder tries again
}

// detach ends the hits. Filters go first: with the last one, the breakpoints
// are taken out of the targets.
func (att *Attachment) detach() {
	att.closed = true
	for _, fd := range att.filters {
		unix.Close(fd)
	}
	for _, l := range att.pmu {
		l.Close()
	}
	att.filters, att.pmu = nil, nil
	for _, fd := range []*int{&att.link, &att.anchor} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// remove deletes the definition. The kernel frees perf events with a delay
// when it is busy with them, and refuses until it has.
func (att *Attachment) remove() error {
	if att.event == "" {
		return nil
	}
	deadline := time.Now().Add(removeTimeout)
	for wait := time.Millisecond; ; wait *= 2 {
		err := att.a.fs.Remove(att.a.group, att.event)
		if err == nil {
			att.event = ""
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("detach %v: %w", att.point, err)
		}
		time.Sleep(wait)
	}
}
