package probe

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/symbol"
)

// removeTimeout bounds the wait for the kernel to finish closing an event's
// perf events before its definition can go.
const removeTimeout = 2 * time.Second

// event is a trace event with one program and cookie, hit at any of its
// places. Many places on one event take no more descriptors than one.
//
// All places must be defined before the event is first opened: the kernel
// does not set those added later, and from 6.12 follows a nil pointer when the
// next perf event is opened (append_trace_uprobe, uprobe_perf_open).
type event struct {
	a      *Attacher
	prog   *ebpf.Program
	cookie uint64
	places []*Attachment

	name    string                  // in tracefs; "" before and after
	id      uint64                  // of the trace event
	anchor  int                     // perf event that carries the program
	link    int                     // BPF link on the anchor
	filters map[*target][]int       // perf events of the targets' threads
	pmu     map[*target][]link.Link // fallback: one per target and place
}

func newEvent(a *Attacher, prog *ebpf.Program, cookie uint64) *event {
	return &event{
		a: a, prog: prog, cookie: cookie, anchor: -1, link: -1,
		filters: map[*target][]int{}, pmu: map[*target][]link.Link{},
	}
}

// open defines the event at its places and attaches the program. Places that
// the kernel refuses are named by the error. It notices some of them only when
// the whole event is opened, without telling which; then each place gets an
// event of its own. The result is the events that are open.
func (ev *event) open() ([]*event, error) {
	err := ev.define()
	if len(ev.places) == 0 {
		return nil, err
	}
	oerr := ev.openAnchor()
	if oerr == nil {
		return []*event{ev}, err
	}
	ev.close()
	_ = ev.remove() // it is inert, and the next recorder tries again
	if len(ev.places) == 1 {
		return nil, errors.Join(err, fmt.Errorf("attach %v: %w", ev, oerr))
	}
	errs := []error{err}
	var opened []*event
	for _, att := range ev.places {
		alone := newEvent(ev.a, ev.prog, ev.cookie)
		alone.places = []*Attachment{att}
		some, err := alone.open()
		opened, errs = append(opened, some...), append(errs, err)
	}
	return opened, errors.Join(errs...)
}

func (ev *event) define() error {
	a := ev.a
	name := "p" + strconv.Itoa(a.next)
	a.next++
	files := map[string]*os.File{} // most places are in few files
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	var errs []error
	var defined []*Attachment
	for _, att := range ev.places {
		if err := att.define(name, files); err != nil {
			errs = append(errs, fmt.Errorf("attach %v: %w", att.point, err))
			continue
		}
		ev.name = name
		defined = append(defined, att)
	}
	ev.places = defined
	return errors.Join(errs...)
}

// define adds the place to the trace event. Through a descriptor, the kernel
// finds the file whatever its name contains, in whichever mount namespace it
// is, deleted or not.
func (att *Attachment) define(event string, files map[string]*os.File) error {
	file := files[att.point.Path]
	if file == nil {
		var err error
		if file, err = symbol.OpenRegular(att.point.Path); err != nil {
			return err
		}
		files[att.point.Path] = file
	}
	a := att.a
	path := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	return a.fs.AddUprobe(a.group, event, path, att.point.Offset, att.point.Return, att.point.Semaphore)
}

// openAnchor opens the event for this very process, which runs none of the
// probed code.
func (ev *event) openAnchor() error {
	var err error
	if ev.id, err = ev.a.fs.EventID(ev.a.group, ev.name); err != nil {
		return err
	}
	if ev.anchor, err = openEvent(ev.id, os.Getpid(), alone); err != nil {
		return fmt.Errorf("open the probe: %w", explainOpen(err, 1, 1))
	}
	ev.link, err = linkProgram(ev.anchor, ev.prog, ev.cookie)
	return err
}

// String names the first place, and how many more there are.
func (ev *event) String() string {
	switch n := len(ev.places); n {
	case 0:
		return "no place"
	case 1:
		return ev.places[0].point.String()
	default:
		return fmt.Sprintf("%v and %d more", ev.places[0].point, n-1)
	}
}

// close ends the hits. Filters go first: with the last one, the breakpoints
// are taken out of the targets.
func (ev *event) close() {
	for t := range ev.filters {
		ev.leave(t)
	}
	for t := range ev.pmu {
		ev.leave(t)
	}
	for _, fd := range []*int{&ev.link, &ev.anchor} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// leave closes what was opened for one target.
func (ev *event) leave(t *target) {
	for _, fd := range ev.filters[t] {
		unix.Close(fd)
	}
	for _, l := range ev.pmu[t] {
		l.Close()
	}
	delete(ev.filters, t)
	delete(ev.pmu, t)
}

// remove deletes the definition. The kernel frees perf events with a delay
// when it is busy with them, and refuses until it has.
func (ev *event) remove() error {
	if ev.name == "" {
		return nil
	}
	deadline := time.Now().Add(removeTimeout)
	for wait := time.Millisecond; ; wait *= 2 {
		err := ev.a.fs.Remove(ev.a.group, ev.name)
		if err == nil {
			ev.name = ""
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove the definition of %v: %w", ev, err)
		}
		time.Sleep(wait)
	}
}
