package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
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
func openEvent(id uint64, tid int, inherit bool) (int, error) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_TRACEPOINT,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config: id,
		Bits:   unix.PerfBitDisabled,
	}
	if inherit {
		attr.Bits |= unix.PerfBitInherit
	}
	for {
		fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
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
