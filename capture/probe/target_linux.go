package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// maxRounds bounds how often a target's threads are listed again because new
// ones have appeared. A process that creates threads all the time shows new
// ones in every round, nearly all of which have inherited the probes.
const maxRounds = 20

// target is a process given to AddTarget or AddChild.
type target struct {
	a     *Attacher
	pid   int
	birth uint64 // start time, which tells a reused pid
	// older are the children it had before, which are not targets.
	older map[int]bool
	// child: it is a target by descent already, and nothing that is opened for
	// it is inherited. So it can be closed when the process has ended: with an
	// event go those that were inherited from it.
	child bool
	pins  map[int]int // perf events that keep the others with their threads
}

// AddTarget starts recording a process: all threads that it has, and if
// FollowsFork, all threads and children that it will have. Children that it
// has already are left alone. Adding a target twice is fine.
//
// The error wraps fs.ErrNotExist if there is no such process. If only some
// probes could be set, the rest of them work all the same.
func (a *Attacher) AddTarget(pid int) error { return a.add(pid, false) }

// AddChild makes sure that a process which a target has started stays
// recorded, where NeedsChildren says so. The error wraps fs.ErrNotExist if it
// has ended.
func (a *Attacher) AddChild(pid int) error {
	if !a.NeedsChildren() {
		return nil
	}
	return a.add(pid, a.FollowsFork())
}

// AddEveryone records every process that runs the code, now and later. It needs
// no other target.
func (a *Attacher) AddEveryone() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &target{a: a, pid: -1}
	a.targets = append(a.targets, t)
	if err := t.cover(a.events); err != nil {
		return fmt.Errorf("probe every process: %w", explainOpen(err, 1, len(a.events)))
	}
	return nil
}

// Forget gives back what a process took that has ended.
func (a *Attacher) Forget(pid int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.targets = slices.DeleteFunc(a.targets, func(t *target) bool {
		if t.pid != pid || a.FollowsFork() && !t.child {
			return false
		}
		t.unpin()
		for _, ev := range a.events {
			ev.leave(t)
		}
		return true
	})
}

func (a *Attacher) add(pid int, child bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	birth, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("add target %d: %w", pid, err)
	}
	for _, t := range a.targets {
		if t.pid == pid && t.birth == birth {
			return nil
		}
	}
	t := &target{a: a, pid: pid, birth: birth, child: child, older: map[int]bool{}, pins: map[int]int{}}
	if !child {
		for _, child := range Children(pid) {
			t.older[child] = true
		}
	}
	a.targets = append(a.targets, t)
	if err := t.cover(a.events); err != nil {
		return fmt.Errorf("add target %d: %w", pid, err)
	}
	return nil
}

// cover sets the given probes in the target.
func (t *target) cover(list []*event) error {
	switch {
	case len(list) == 0:
		return nil
	case !t.a.FollowsFork():
		return t.coverPMU(list)
	case t.pid < 0:
		return t.open(-1, list, everyone)
	case t.child:
		return t.coverProcess(t.pid, list)
	}
	return t.coverFamily(list)
}

// coverFamily sets the given probes in the target and in the children it has
// started since it became one. Such children have inherited probes that were
// there at their birth, but not those that are being added, nor those that
// their parent's thread still lacked.
func (t *target) coverFamily(list []*event) error {
	var errs []error
	done := map[int]bool{}
	for range maxRounds {
		found := false
		for _, pid := range t.family() {
			if done[pid] {
				continue
			}
			done[pid], found = true, true
			errs = append(errs, t.coverProcess(pid, list))
		}
		if !found {
			break
		}
	}
	return errors.Join(errs...)
}

// family lists the target and its descendants that are targets by descent.
func (t *target) family() []int {
	all := []int{t.pid}
	seen := map[int]bool{t.pid: true}
	for i := 0; i < len(all); i++ {
		for _, child := range Children(all[i]) {
			if !seen[child] && !t.older[child] {
				seen[child] = true
				all = append(all, child)
			}
		}
	}
	return all
}

// coverProcess opens the probes for all threads of a process. A thread that is
// created meanwhile inherits from its creator only what was open by then, so
// the list is read again until it shows nobody new.
func (t *target) coverProcess(pid int, list []*event) error {
	done := map[int]bool{}
	for range maxRounds {
		tids, err := threads(pid)
		if err != nil {
			return nil // it has ended
		}
		found := false
		for _, tid := range tids {
			if done[tid] {
				continue
			}
			done[tid], found = true, true
			if err := t.coverThread(tid, list); err != nil {
				if errors.Is(err, unix.EMFILE) {
					t.leaveRoom(list)
				}
				return fmt.Errorf("open a probe for thread %d of process %d: %w",
					tid, pid, explainOpen(err, len(tids), len(list)))
			}
		}
		if !found {
			break
		}
	}
	return nil
}

func (t *target) coverThread(tid int, list []*event) error {
	err := t.pin(tid)
	if err == nil && t.child {
		err = t.renew(tid, list)
	} else if err == nil {
		err = t.open(tid, list, t.lineage())
	}
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended
	}
	return err
}

// renew gives a thread filters of its own beside those that it inherited, which
// may be gone already, or go at any moment. First each event gets a guard, which
// keeps the breakpoints that there are, and is quick because it sets none. Then
// one after the other is replaced: the kernel sets the breakpoints of a filter
// only if it has no other one for the address space, so a guard beside it would
// leave a process without breakpoints that had lost them before.
func (t *target) renew(tid int, list []*event) error {
	guard := &target{a: t.a}
	defer func() {
		for _, ev := range list {
			ev.leave(guard)
		}
	}()
	if err := guard.open(tid, list, filterOnly); err != nil {
		return err
	}
	for _, ev := range list {
		ev.leave(guard)
		if err := t.open(tid, []*event{ev}, t.lineage()); err != nil {
			return err
		}
	}
	return nil
}

func (t *target) open(tid int, list []*event, how lineage) error {
	for _, ev := range list {
		fd, err := openEvent(ev.id, tid, how)
		if err != nil {
			return err
		}
		ev.filters[t] = append(ev.filters[t], fd)
	}
	return nil
}

func (t *target) lineage() lineage {
	switch {
	case t.child:
		return alone
	case t.a.exchanged:
		return inherited
	}
	return kept
}

// pin keeps the events of a thread with it, where the kernel would exchange them.
func (t *target) pin(tid int) error {
	if _, done := t.pins[tid]; done || !t.a.exchanged {
		return nil
	}
	fd, err := openPin(tid)
	if err == nil {
		t.pins[tid] = fd
	}
	return err
}

func (t *target) unpin() {
	for _, fd := range t.pins {
		unix.Close(fd)
	}
	clear(t.pins)
}

// leaveRoom closes the latest filters, lest the recorder can open nothing any
// more. The first thread's serve its whole process, since the kernel sets
// breakpoints in an address space; what threads without them lack is that their
// children inherit them.
func (t *target) leaveRoom(list []*event) {
	const room = 512 // descriptors
	for _, ev := range list {
		fds := ev.filters[t]
		keep := max(len(fds)-room/len(list), min(len(fds), 1))
		for _, fd := range fds[keep:] {
			unix.Close(fd)
		}
		ev.filters[t] = fds[:keep]
	}
}

// coverPMU opens the probes without tracefs, for the process's address space.
func (t *target) coverPMU(list []*event) error {
	for _, ev := range list {
		for _, att := range ev.places {
			l, err := openPMU(att.point, t.pid, ev.prog, ev.cookie)
			if errors.Is(err, unix.ESRCH) {
				return nil // it has ended
			}
			if err != nil {
				return fmt.Errorf("set %v in process %d (run as root, or see `tcap doctor`): %w", att.point, t.pid, err)
			}
			ev.pmu[t] = append(ev.pmu[t], l)
		}
	}
	return nil
}

func openPMU(p Point, pid int, prog *ebpf.Program, cookie uint64) (link.Link, error) {
	exe, err := link.OpenExecutable(p.Path)
	if err != nil {
		return nil, err
	}
	opts := &link.UprobeOptions{Address: p.Offset, PID: max(pid, 0), Cookie: cookie, RefCtrOffset: p.Semaphore}
	if p.Return {
		return exe.Uretprobe("", prog, opts)
	}
	return exe.Uprobe("", prog, opts)
}

// startTime returns when a process started, in clock ticks after boot: field
// 22 of /proc/PID/stat, counted after the name, which may contain anything.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(procPath(pid, "stat"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, fmt.Errorf("no such process: %w", fs.ErrNotExist)
	}
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("%s has %d fields after the name", procPath(pid, "stat"), len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func procPath(pid int, rest ...string) string {
	return "/proc/" + strconv.Itoa(pid) + strings.Join(append([]string{""}, rest...), "/")
}

// threads lists the thread ids of a process.
func threads(pid int) ([]int, error) {
	dir, err := os.Open(procPath(pid, "task"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	tids := make([]int, 0, len(names))
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// Children lists the processes whose parent is pid. It reads
// /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN, which distributions set).
func Children(pid int) []int {
	tids, err := threads(pid)
	if err != nil {
		return nil
	}
	var pids []int
	for _, tid := range tids {
		data, err := os.ReadFile(procPath(pid, "task", strconv.Itoa(tid), "children"))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}
