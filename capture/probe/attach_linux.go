package probe

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/tcap-dev/tcap/capture/tracefs"
)

// groupPrefix starts the name of every trace event group of a recorder:
// tcap_PID_SUFFIX.
const groupPrefix = "tcap"

// Attacher attaches BPF programs to user-space probes of a set of target
// processes.
//
// Places that share program and cookie make up one trace event in tracefs. One perf event on it, the anchor,
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
// perf PMU per process instead, which does not follow forks (and needs
// CAP_SYS_ADMIN, too, on the kernels that were tried).
type Attacher struct {
	fs    *tracefs.FS // nil: PMU fallback
	group string
	// exchanged: the scheduler may exchange the events of two tasks.
	exchanged bool

	mu      sync.Mutex
	next    int // number of the next event
	events  []*event
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

// Attachment is a program attached at a point.
type Attachment struct {
	a      *Attacher
	point  Point
	place  place
	cookie uint64
}

// Point returns where the program runs, and why there.
func (att *Attachment) Point() Point { return att.point }

// Cookie returns the number that the program gets from bpf_get_attach_cookie.
func (att *Attachment) Cookie() uint64 { return att.cookie }

// Spec asks for a program at a point.
type Spec struct {
	Point  Point
	Prog   *ebpf.Program // stays the caller's, who keeps it open
	Cookie uint64        // for bpf_get_attach_cookie
}

// NewAttacher returns an Attacher without probes or targets. fs stays the
// caller's and must outlive the Attacher; nil, or one in which nothing can be
// defined, selects the fallback. Definitions left behind by recorders that
// were killed are removed.
func NewAttacher(fs *tracefs.FS) (*Attacher, error) {
	a := &Attacher{byPlace: map[place]*Attachment{}, exchanged: !keepsEvents()}
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

// KernelKeepsProbes reports whether a process that a target starts keeps the
// probes that it inherits, whatever happens (since Linux 6.12).
func KernelKeepsProbes() bool { return keepsEvents() }

// NeedsChildren reports whether each process that a target starts, and each
// that those start, must be given to AddChild as soon as it is there, and to
// Forget when it has ended. Unless FollowsFork, it is not recorded before. Else
// it is recorded from its first instruction on; but on kernels before 6.12, if
// it starts processes or threads before it is given to AddChild, and one of
// them ends before that, or it ends itself, those that are left may have lost
// their probes, which AddChild gives back.
func (a *Attacher) NeedsChildren() bool { return a.fs == nil || a.exchanged }

// Attach is AttachAll for one point.
func (a *Attacher) Attach(point Point, prog *ebpf.Program, cookie uint64) (*Attachment, error) {
	list, err := a.AttachAll([]Spec{{point, prog, cookie}})
	if len(list) == 0 {
		return nil, err
	}
	return list[0], err
}

// AttachAll runs programs on every hit of their points in the targets, present
// and future ones. A program that is already attached at a place is not
// attached twice: the earlier Attachment, with its cookie, is returned.
//
// Points that cannot be probed are left out of the result and named by the
// error; the others work. It is much cheaper to attach many points at once
// than one by one: points of one program and cookie share descriptors.
func (a *Attacher) AttachAll(specs []Spec) ([]*Attachment, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	type key struct {
		prog   *ebpf.Program
		cookie uint64
		ret    bool
	}
	var errs []error
	var list []*Attachment
	var events []*event
	byKey := map[key]*event{}
	for _, spec := range specs {
		info, err := os.Stat(spec.Point.Path)
		if err != nil {
			errs = append(errs, fmt.Errorf("attach %v: %w", spec.Point, err))
			continue
		}
		where := place{keyOf(info), spec.Point.Offset, spec.Point.Return, spec.Prog}
		if att := a.byPlace[where]; att != nil {
			list = append(list, att)
			continue
		}
		att := &Attachment{a: a, point: spec.Point, place: where, cookie: spec.Cookie}
		a.byPlace[where] = att
		list = append(list, att)
		k := key{spec.Prog, spec.Cookie, spec.Point.Return}
		if byKey[k] == nil {
			byKey[k] = newEvent(a, spec.Prog, spec.Cookie)
			events = append(events, byKey[k])
		}
		byKey[k].places = append(byKey[k].places, att)
	}
	if err := a.openAll(events); err != nil {
		errs = append(errs, err)
	}
	return a.attached(list), errors.Join(errs...)
}

// openAll opens new events and sets them in the targets.
func (a *Attacher) openAll(events []*event) error {
	var errs []error
	opened := events
	if a.fs != nil {
		opened = nil
		for _, ev := range events {
			wanted := ev.places
			some, err := ev.open()
			opened, errs = append(opened, some...), append(errs, err)
			var got []*Attachment
			for _, e := range some {
				got = append(got, e.places...)
			}
			a.forgetMissing(wanted, got)
		}
	}
	a.events = append(a.events, opened...)
	for _, t := range a.targets {
		errs = append(errs, t.cover(opened))
	}
	return errors.Join(errs...)
}

// forgetMissing drops the places that were wanted and could not be had.
func (a *Attacher) forgetMissing(wanted, got []*Attachment) {
	have := map[*Attachment]bool{}
	for _, att := range got {
		have[att] = true
	}
	for _, att := range wanted {
		if !have[att] {
			delete(a.byPlace, att.place)
		}
	}
}

// attached keeps what is in byPlace.
func (a *Attacher) attached(list []*Attachment) []*Attachment {
	var kept []*Attachment
	for _, att := range list {
		if a.byPlace[att.place] == att {
			kept = append(kept, att)
		}
	}
	return kept
}

// Probes reports whether anything is attached in a file.
func (a *Attacher) Probes(file os.FileInfo) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := keyOf(file)
	for where := range a.byPlace {
		if where.file == key {
			return true
		}
	}
	return false
}

// Attachments returns what is attached now.
func (a *Attacher) Attachments() []*Attachment {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*Attachment
	for _, ev := range a.events {
		list = append(list, ev.places...)
	}
	return list
}

// Detach takes a program off all its places, which then cost nothing.
func (a *Attacher) Detach(prog *ebpf.Program) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var gone, kept []*event
	for _, ev := range a.events {
		if ev.prog == prog {
			gone = append(gone, ev)
		} else {
			kept = append(kept, ev)
		}
	}
	a.events = kept
	return a.drop(gone)
}

// Close detaches everything: the targets run at full speed again when it
// returns.
func (a *Attacher) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	events := a.events
	err := a.drop(events)
	for _, t := range a.targets {
		t.unpin()
	}
	a.events, a.targets = nil, nil
	return err
}

func (a *Attacher) drop(events []*event) error {
	// The kernel waits some 30 ms for each; at once, they wait together.
	var wg sync.WaitGroup
	for _, ev := range events {
		wg.Go(ev.close)
	}
	wg.Wait()
	var errs []error
	for _, ev := range events {
		a.forgetMissing(ev.places, nil)
		errs = append(errs, ev.remove())
	}
	return errors.Join(errs...)
}
