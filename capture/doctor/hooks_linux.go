package doctor

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/probe"
)

// empty loads a program that does nothing.
func empty(typ ebpf.ProgramType, attach ebpf.AttachType, to string) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "tcap_doctor", Type: typ, AttachType: attach, AttachTo: to, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
}

// try loads an empty program, attaches it with fn and detaches it.
func try[L interface{ Close() error }](typ ebpf.ProgramType, attach ebpf.AttachType, to string, fn func(*ebpf.Program) (L, error)) error {
	prog, err := empty(typ, attach, to)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer prog.Close()
	l, err := fn(prog)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return l.Close()
}

func tracing(prog *ebpf.Program) (link.Link, error) {
	return link.AttachTracing(link.TracingOptions{Program: prog})
}

func (m *machine) btf() Row {
	_, err := btf.LoadKernelSpec()
	return tried(err, "/sys/kernel/btf/vmlinux", "nothing can be recorded: programs cannot find the kernel's fields",
		"use a kernel with CONFIG_DEBUG_INFO_BTF, as those of all large distributions")
}

func (m *machine) ringbuf() Row {
	return tried(features.HaveMapType(ebpf.RingBuf), "available", "nothing can be recorded", "use Linux 5.8 or later")
}

func (m *machine) helpers() Row {
	var errs []error
	for _, fn := range []asm.BuiltinFunc{asm.FnGetAttachCookie, asm.FnGetCurrentTaskBtf, asm.FnProbeReadUser, asm.FnGetStack, asm.FnRingbufOutput} {
		if err := features.HaveProgramHelper(ebpf.Kprobe, fn); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", fn, err))
		}
	}
	return tried(errors.Join(errs...), "all that are used", "nothing can be recorded", "use Linux 5.15 or later")
}

func (m *machine) programs() Row {
	return tried(capture.TryLoad(), "load and pass the kernel's verifier", "nothing can be recorded",
		"use Linux 5.15 or later; if it is, report this line as a bug")
}

func (m *machine) btfTracepoints() Row {
	err := try(ebpf.Tracing, ebpf.AttachTraceRawTp, "sched_process_exec", tracing)
	return tried(err, "attached one (tp_btf)", "nothing can be recorded: no process is followed, no connection seen",
		"use a kernel with BTF, and BPF trampolines for this architecture")
}

func (m *machine) tracefs() Row {
	const cost = "no TCP; of the heap, children are recorded from a moment after their birth, mappings not at all"
	switch {
	case m.fs == nil:
		row := tried(m.fsErr, "", cost, "mount -t tracefs tracefs /sys/kernel/tracing")
		row.State = Limited
		return row
	case m.fs.ReadOnly() != nil:
		row := tried(m.fs.ReadOnly(), "", cost, "run as root on the machine itself, not in a container")
		row.State = Limited
		row.Found = m.fs.String() + ": " + row.Found
		return row
	}
	return Row{State: OK, Found: m.fs.String()}
}

func (m *machine) syscallTracepoints() Row {
	const cost, fix = "no TCP, no mappings (mmap, brk)", "use a kernel with CONFIG_FTRACE_SYSCALLS"
	if m.fs == nil {
		return Row{State: Missing, Found: "no tracefs", Cost: cost, Fix: runAsRoot}
	}
	id, err := m.fs.EventID("syscalls", "sys_enter_mmap")
	if err == nil {
		err = perfEvent(unix.PERF_TYPE_TRACEPOINT, id)
	}
	return tried(err, "opened one", cost, fix)
}

// uprobes sets a probe in tcap itself, where it began and never comes again.
func (m *machine) uprobes() Row {
	const cost = "no heap"
	offset, err := entryOffset("/proc/self/exe")
	if err != nil {
		return tried(err, "", cost, "")
	}
	point := probe.Point{Name: "tcap's entry", Path: "/proc/self/exe", Offset: offset}
	traced := m.attachUprobe(point)
	if traced == nil {
		return Row{State: OK, Found: "attached one by tracefs, with a cookie; children are followed"}
	}
	opts := &link.UprobeOptions{Address: offset, PID: os.Getpid(), Cookie: 1}
	err = try(ebpf.Kprobe, ebpf.AttachNone, "", func(p *ebpf.Program) (link.Link, error) {
		exe, err := link.OpenExecutable(point.Path)
		if err != nil {
			return nil, err
		}
		return exe.Uprobe("", p, opts)
	})
	if err != nil {
		row := tried(err, "", cost, "use a kernel with CONFIG_UPROBE_EVENTS, Linux 5.15 or later")
		if m.privileged() {
			row.Found = "by tracefs: " + line(traced) + "; by perf: " + line(err)
		}
		return row
	}
	return Row{State: Limited, Found: "attached one by perf, none by tracefs: " + reason(traced),
		Cost: "children of targets are recorded from a moment after their birth", Fix: runAsRoot}
}

// attachUprobe attaches in the way that a recording does.
func (m *machine) attachUprobe(point probe.Point) (err error) {
	if m.fs == nil {
		return m.fsErr
	}
	if err := m.fs.ReadOnly(); err != nil {
		return err
	}
	prog, err := empty(ebpf.Kprobe, ebpf.AttachNone, "")
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer prog.Close()
	a, err := probe.NewAttacher(m.fs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := a.AddTarget(os.Getpid()); err != nil {
		return err
	}
	_, err = a.Attach(point, prog, 1)
	return err
}

// entryOffset is the file offset of an executable's first instruction.
func entryOffset(path string) (uint64, error) {
	f, err := elf.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read own executable: %w", err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && f.Entry >= p.Vaddr && f.Entry-p.Vaddr < p.Filesz {
			return f.Entry - p.Vaddr + p.Off, nil
		}
	}
	return 0, errors.New("own executable: its entry is in no segment")
}

// returnProbes tells of the system call that x86 return probes use since 6.11
// and that filters of seccomp did not know: a process under a filter that
// answers unknown calls with an error crashes when its first return probe
// fires. Fixed by cf6cb56ef244 in 6.14, and in stable releases of early 2025.
func (m *machine) returnProbes() Row {
	if runtime.GOARCH != "amd64" || !m.atLeast(6, 11) {
		return Row{State: OK, Found: "this kernel needs no system call for them"}
	}
	if m.atLeast(6, 14) {
		return Row{State: OK, Found: "seccomp filters let their system call pass (since 6.14)"}
	}
	return Row{State: Limited,
		Found: fmt.Sprintf("%d.%d has a system call for them that seccomp filters may refuse; %d processes run under one",
			m.version[0], m.version[1], filtered("/proc")),
		Cost: "recording the heap of a process under a seccomp filter (Docker's, Chrome's) may crash it",
		Fix:  "use 6.14, or a stable 6.12 or 6.13 with commit cf6cb56ef244 (February 2025); record no heap of such processes"}
}

// filtered counts the processes that run under a seccomp filter.
func filtered(proc string) int {
	paths, _ := filepath.Glob(proc + "/[0-9]*/status")
	n := 0
	for _, path := range paths {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "\nSeccomp:\t2\n") {
			n++
		}
	}
	return n
}

func (m *machine) iterators() Row {
	err := try(ebpf.Tracing, ebpf.AttachTraceIter, "task_file", func(p *ebpf.Program) (*link.Iter, error) {
		return link.AttachIter(link.IterOptions{Program: p})
	})
	row := tried(err, "attached one (iter/task_file)", "connections that are open before the recording, or idle through it, are not seen",
		"use Linux 5.8 or later")
	if err != nil {
		row.State = Limited
	}
	return row
}

// unneeded is the row of a hook that tcap does without.
func (m *machine) unneeded(err error) Row {
	row := Row{State: Missing, Cost: "nothing: tcap does without"}
	switch {
	case err == nil:
		return Row{State: OK, Found: "attached one; not needed"}
	case errors.Is(err, os.ErrNotExist):
		row.Found = "this kernel has none"
	case errors.Is(err, os.ErrPermission) && m.privileged():
		row.Found = "this kernel refuses them"
	default:
		row.Found = reason(err)
	}
	return row
}

func (m *machine) fentry() Row {
	return m.unneeded(try(ebpf.Tracing, ebpf.AttachTraceFEntry, "tcp_connect", tracing))
}

func (m *machine) kprobes() Row {
	err := try(ebpf.Kprobe, ebpf.AttachNone, "", func(p *ebpf.Program) (link.Link, error) { return link.Kprobe("tcp_connect", p, nil) })
	return m.unneeded(err)
}
