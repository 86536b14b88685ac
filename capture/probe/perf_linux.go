package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// openEvent opens a trace event as a perf event of one thread. It is never
// enabled: an event of a uprobe sets breakpoints in the thread's address space
// from the moment it is open, and BPF programs run for every hit of the trace
// event, whatever the state of its perf events (kernel/trace/trace_uprobe.c:
// uprobe_perf_open, __uprobe_perf_func).
//
// Inherited events are opened as ones that are to be sampled together with
// their counts, although nothing is sampled: it keeps them with their task
// (since 6.12, nr_no_switch_fast in kernel/events/core.c). Otherwise, where a
// process blocks in favour of a clone of it, the scheduler lets the two
// exchange their events, which is cheaper; but the probe's filter still names
// the first owner. When the clone ends, the breakpoints go, and from the wrong
// process: a child of the target that forks and waits goes silent. Older
// kernels refuse the combination, see keepsEvents and openPin.
func openEvent(id uint64, tid int, how lineage) (int, error) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_TRACEPOINT,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config: id,
		Bits:   unix.PerfBitDisabled,
	}
	if how == inherited || how == kept {
		attr.Bits |= unix.PerfBitInherit
	}
	if how == filterOnly {
		attr.Bits |= unix.PerfBitEnableOnExec
	}
	if how == kept {
		attr.Sample_type = unix.PERF_SAMPLE_READ | unix.PERF_SAMPLE_TID
	}
	if how == everyone {
		return perfEventOpenOn(&attr, -1, 0)
	}
	return perfEventOpen(&attr, tid)
}

// A lineage says what becomes of an event when its task forks or clones.
type lineage int

const (
	alone lineage = iota // nothing
	// filterOnly is alone, and keeps the breakpoints that the task has, but sets
	// none, which takes most of the time (trace_uprobe_filter_add).
	filterOnly
	inherited // the child has one, too, and may exchange it for its parent's
	kept      // the child has one, too
	// everyone is of no task. It is opened on one CPU and sets breakpoints for all
	// (trace_uprobe_filter_add counts it as system-wide).
	everyone
)

// keepsEvents reports whether the kernel can be told not to exchange the
// inherited events of two tasks.
var keepsEvents = sync.OnceValue(func() bool {
	fd, err := perfEventOpen(&unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config:      unix.PERF_COUNT_SW_DUMMY,
		Bits:        unix.PerfBitDisabled | unix.PerfBitInherit,
		Sample_type: unix.PERF_SAMPLE_READ | unix.PERF_SAMPLE_TID,
	}, os.Getpid())
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
})

// openPin opens an event of a thread that counts nothing and is not inherited.
// It makes a kernel that exchanges events leave the thread's alone: those of
// two tasks are exchanged only if one task was cloned from the other, or both
// from a third, with all events inherited, and none was opened since
// (context_equiv, inherit_task_group in kernel/events/core.c).
func openPin(tid int) (int, error) {
	return perfEventOpen(&unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config: unix.PERF_COUNT_SW_DUMMY,
		Bits:   unix.PerfBitDisabled,
	}, tid)
}

func perfEventOpen(attr *unix.PerfEventAttr, tid int) (int, error) {
	return perfEventOpenOn(attr, tid, -1)
}

func perfEventOpenOn(attr *unix.PerfEventAttr, tid, cpu int) (int, error) {
	for {
		fd, err := unix.PerfEventOpen(attr, tid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// LinkProgram attaches prog to the trace event of the perf event fd with a
// cookie, for bpf_get_attach_cookie, and returns the link's descriptor.
func LinkProgram(fd int, prog *ebpf.Program, cookie uint64) (int, error) {
	return linkProgram(fd, prog, cookie)
}

// linkProgram attaches prog to the trace event of the perf event fd with a
// cookie, and returns the link's descriptor (BPF_LINK_CREATE, since 5.15).
// cilium/ebpf offers this only for perf events that it opened itself.
func linkProgram(fd int, prog *ebpf.Program, cookie uint64) (int, error) {
	attr := struct {
		progFd, targetFd, attachType, flags uint32
		cookie                              uint64
	}{uint32(prog.FD()), uint32(fd), unix.BPF_PERF_EVENT, 0, cookie}
	for {
		link, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_CREATE,
			uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		runtime.KeepAlive(prog)
		switch errno {
		case 0:
			return int(link), nil
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.EINVAL:
			return -1, fmt.Errorf("link the BPF program to the probe (needs Linux 5.15): %w", errno)
		default:
			return -1, fmt.Errorf("link the BPF program to the probe: %w", errno)
		}
	}
}

func keyOf(fi os.FileInfo) fileKey {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileKey{}
	}
	return fileKey{uint64(st.Dev), st.Ino}
}

// explainOpen turns the errors of perf_event_open into what to do about them.
func explainOpen(err error, threads, probes int) error {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fmt.Errorf("following children takes one file descriptor per thread and probe, here %d x %d; "+
			"raise the limit (ulimit -Hn %d) or record fewer probes: %w", threads, probes, threads*probes+1024, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("run as root, or with CAP_PERFMON and CAP_SYS_PTRACE: %w", err)
	}
	return err
}
