package capture

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/capture/tracefs"
	"golang.org/x/sys/unix"
)

// A builtin is a pack that tcap records by programs of its own. Adding one is adding
// a row to packs.
type builtin struct {
	name        string
	needsTarget bool // too dear to record of every process
	attach      func(r *recorder) error
}

var packs = []builtin{
	{"heap", true, (*recorder).attachHeap},
	{"tcp", false, (*recorder).attachTCP},
}

// PackNames lists what can be recorded.
func PackNames() []string {
	var names []string
	for _, p := range packs {
		names = append(names, p.name)
	}
	return names
}

// packs are the names of what to record: what was asked for, or all that suits
// the targets.
func (o *Options) packs() []string {
	if !o.auto && !o.unasked() {
		return o.Packs
	}
	var names []string
	for _, p := range packs {
		if o.targeted() || !p.needsTarget {
			names = append(names, p.name)
		}
	}
	return names
}

// recorded are the names of all that is recorded, for the capture: declared probes
// are calls, and their packs.
func (o *Options) recorded() []string {
	names := slices.Clone(o.packs())
	for _, p := range o.Probes {
		for _, name := range []string{"calls", p.Pack} {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// checkPacks refuses names that are no packs, and packs without the target they need.
func (o *Options) checkPacks() error {
	for _, name := range o.Packs {
		i := slices.IndexFunc(packs, func(p builtin) bool { return p.name == name })
		if i < 0 {
			return fmt.Errorf("-e %s: no such pack; there are %s", name, strings.Join(PackNames(), ", "))
		}
		if packs[i].needsTarget && !o.targeted() {
			return fmt.Errorf("-e %s: it makes every call of a process trap, so say whose: -p PID, --comm NAME or -- COMMAND", name)
		}
	}
	if o.KernelStacks && !slices.Contains(o.packs(), "tcp") {
		return errors.New("kernel stacks are of TCP events, which are not recorded: -e tcp")
	}
	return nil
}

// attachPacks attaches what is to be recorded. What fails is named and the rest
// is recorded, unless it was asked for by name.
func (r *recorder) attachPacks() error {
	wanted := r.opts.packs()
	attached := 0
	var errs []error
	if r.calls != nil {
		err := r.attachCalls()
		if err != nil && !r.opts.auto {
			return err
		}
		if err == nil {
			attached++
		} else if r.calls, err = nil, r.note(true, err.Error()); err != nil {
			return err
		}
	}
	for _, p := range packs {
		if !slices.Contains(wanted, p.name) {
			continue
		}
		err := p.attach(r)
		if err == nil {
			attached++
			continue
		}
		err = fmt.Errorf("pack %s: %w", p.name, err)
		if len(r.opts.Packs) > 0 {
			return err
		}
		errs = append(errs, err)
		if err := r.note(true, err.Error()); err != nil {
			return err
		}
	}
	if attached == 0 {
		return fmt.Errorf("nothing could be recorded: %w", errors.Join(errs...))
	}
	if r.heap == nil && r.calls != nil && r.calls.needsCode() {
		fs, err := r.tracing()
		if err != nil {
			return err
		}
		return r.attachCode(fs)
	}
	return nil
}

// attachProcesses follows the targets' lives.
func (r *recorder) attachProcesses() error {
	for _, prog := range []*ebpf.Program{
		r.objs.ProcessFork, r.objs.ProcessExec, r.objs.ProcessExit, r.objs.TaskRenamed, r.objs.SpaceGone,
	} {
		if err := r.attachTracing(prog); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) attachTracing(prog *ebpf.Program) error {
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		return fmt.Errorf("attach %s: %w: the kernel needs BTF and BPF trampolines; see `tcap doctor`", prog, err)
	}
	r.closers = append(r.closers, l.Close)
	return nil
}

// attachMemory tells of the targets' mappings.
func (r *recorder) attachMemory(fs *tracefs.FS) error {
	if err := r.attachSyscalls(fs, map[string]*ebpf.Program{"sys_exit_brk": r.objs.ExitBrk}); err != nil {
		return err
	}
	return r.attachCode(fs)
}

// attachCode tells at least of the targets' mappings that are code.
func (r *recorder) attachCode(fs *tracefs.FS) error {
	return r.attachSyscalls(fs, map[string]*ebpf.Program{
		"sys_exit_mmap": r.objs.ExitMmap, "sys_exit_munmap": r.objs.ExitMunmap,
		"sys_exit_mremap": r.objs.ExitMremap, "sys_exit_mprotect": r.objs.ExitMprotect,
	})
}

func (r *recorder) attachSyscalls(fs *tracefs.FS, progs map[string]*ebpf.Program) error {
	for name, prog := range progs {
		c, err := attachTracepoint(fs, "syscalls", name, prog)
		if err != nil {
			return err
		}
		r.closers = append(r.closers, c.Close)
	}
	return nil
}

// tracepoint is a program on a tracepoint: the link and the event that it hangs on.
type tracepoint struct{ link, event int }

func (t tracepoint) Close() error {
	return errors.Join(unix.Close(t.link), unix.Close(t.event))
}

// attachTracepoint runs a program at a tracepoint, wherever tracefs is mounted.
// The event is opened on one CPU; the program runs on all, since it hangs on
// the tracepoint and not on the event (kernel/trace/trace_event_perf.c).
func attachTracepoint(fs *tracefs.FS, group, name string, prog *ebpf.Program) (io.Closer, error) {
	return attachTracepointCookie(fs, group, name, prog, 0)
}

// attachTracepointCookie is attachTracepoint with a number for the program.
func attachTracepointCookie(fs *tracefs.FS, group, name string, prog *ebpf.Program, cookie uint64) (io.Closer, error) {
	id, err := fs.EventID(group, name)
	if err != nil {
		return nil, fmt.Errorf("attach tracepoint %s:%s: %w", group, name, err)
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Size: unix.PERF_ATTR_SIZE_VER1, Sample: 1, Wakeup: 1}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("attach tracepoint %s:%s: perf_event_open: %w", group, name, err)
	}
	l, err := probe.LinkProgram(fd, prog, cookie)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("attach tracepoint %s:%s: %w", group, name, err)
	}
	return tracepoint{l, fd}, nil
}
