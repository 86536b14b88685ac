package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/capture/tracefs"
	"github.com/tcap-dev/tcap/format"
	"golang.org/x/sys/unix"
)

// check fills in what was left open and refuses what makes no sense.
func (o *Options) check() error {
	if o.Stacks == "" || o.Stacks == StacksAuto {
		o.Stacks = StacksDwarf
	}
	if o.StackSize == 0 {
		o.StackSize = DefaultStackSize
	}
	if err := o.checkWords(); err != nil {
		return &OptionError{err}
	}
	if err := checkNamespace(o.targeted() || len(o.Probes)+len(o.Apps) > 0); err != nil {
		return err
	}
	for _, pid := range o.Pids {
		if err := checkPid(pid); err != nil {
			return err
		}
	}
	return nil
}

// checkWords checks the options that are names.
func (o *Options) checkWords() error {
	if _, ok := waysOfStacks[o.Stacks]; !ok {
		return fmt.Errorf("stacks %q: must be %s, %s, %s or %s", o.Stacks, StacksAuto, StacksDwarf, StacksFP, StacksNone)
	}
	if o.StackSize < 256 || o.StackSize > MaxStackSize {
		return fmt.Errorf("stack size of %d bytes: must be 256 to %d", o.StackSize, MaxStackSize)
	}
	switch {
	case o.Unwind == "" || o.Unwind == UnwindOnline:
	case o.Unwind != UnwindOffline:
		return fmt.Errorf("unwind %q: must be %s or %s", o.Unwind, UnwindOnline, UnwindOffline)
	case o.Stacks != StacksDwarf:
		return fmt.Errorf("unwind %s: stacks by %q are not unwound; it needs stacks %s", o.Unwind, o.Stacks, StacksDwarf)
	}
	for _, c := range o.Comms {
		if len(c) > 15 || c == "" {
			return fmt.Errorf("comm %q: the kernel keeps 1 to 15 bytes of a name; give those", c)
		}
	}
	if len(o.Comms) > maxComms {
		return fmt.Errorf("%d comms: at most %d can be followed", len(o.Comms), maxComms)
	}
	return o.checkPacks()
}

// waysOfStacks are the numbers of bpf/heap.h for how stacks are taken.
var waysOfStacks = map[string]uint32{StacksNone: 0, StacksFP: 1, StacksDwarf: 2}

const (
	maxComms = 64 // as bpf/ring.h has it
	// initialPidNamespace is the inode of the machine's own (PROC_PID_INIT_INO
	// in include/linux/proc_ns.h).
	initialPidNamespace = "pid:[4026531836]"
)

// checkNamespace refuses to look at processes, as targets and declared probes make
// tcap do, from within a PID namespace, where their numbers are not those that the
// kernel tells.
func checkNamespace(looks bool) error {
	if !looks || !inNamespace() {
		return nil
	}
	return errors.New("tcap runs in a PID namespace of its own (a container), where processes have other numbers than the kernel tells: start it in the machine's, as with --pid=host")
}

// inNamespace reports whether tcap runs in a PID namespace that is not the machine's.
func inNamespace() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && ns != initialPidNamespace
}

// targeted reports whether processes are followed.
func (o *Options) targeted() bool {
	return len(o.Pids) > 0 || len(o.Comms) > 0 || len(o.Command) > 0
}

func checkPid(pid int) error {
	b, err := os.ReadFile(procPath(uint32(pid), "status"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pid %d: no such process", pid)
	}
	if err != nil {
		return fmt.Errorf("pid %d: %w", pid, err)
	}
	tgid := statusField(string(b), "Tgid:")
	if tgid != strconv.Itoa(pid) {
		return fmt.Errorf("pid %d is a thread of process %s; give that", pid, tgid)
	}
	if statusField(string(b), "State:") == "Z (zombie)" {
		return fmt.Errorf("pid %d has ended already (zombie)", pid)
	}
	if link, err := os.Readlink(procPath(uint32(pid), "exe")); err != nil && errors.Is(err, fs.ErrNotExist) && link == "" {
		return fmt.Errorf("pid %d is a kernel thread; it has no user code to record", pid)
	}
	return nil
}

func statusField(status, key string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// leastFiles is how many descriptors a recording of a small program may need.
const leastFiles = 256

// checkFiles refuses to begin with fewer than that: what fails for want of one is
// a matter of luck.
func checkFiles() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil || lim.Cur >= leastFiles {
		return nil
	}
	return fmt.Errorf("the limit of open files is %d, and tcap needs at least %d: raise it (ulimit -n 4096)", lim.Cur, leastFiles)
}

// newWriter begins the capture, with what was to be said so far.
func (r *recorder) newWriter(start format.ClockAnchor) error {
	var uts unix.Utsname
	unix.Uname(&uts)
	host, _ := os.Hostname()
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var targets []string
	for _, pid := range r.opts.Pids {
		targets = append(targets, fmt.Sprintf("pid %d", pid))
	}
	for _, c := range r.opts.Comms {
		targets = append(targets, "comm "+c)
	}
	if r.cmd != nil {
		targets = append(targets, strings.Join(r.opts.Command, " "))
	}
	if err := r.file.begin(); err != nil {
		return fmt.Errorf("overwrite %s: %w", r.opts.Output, err)
	}
	w, err := format.NewWriter(r.file, format.Header{
		Tool: "tcap", ToolVersion: r.opts.Version,
		Host: host, Kernel: unix.ByteSliceToString(uts.Release[:]), Arch: runtime.GOARCH, OS: runtime.GOOS,
		CPUs: runtime.NumCPU(), PageSize: os.Getpagesize(),
		Command: r.opts.Args, Targets: targets, Start: start, BootID: strings.TrimSpace(string(boot)),
		Packs: r.opts.recorded(), Stacks: r.opts.Stacks, Flush: int64(flushEvery),
	}, format.WriterOptions{})
	if err != nil {
		return fmt.Errorf("write %s: %w", r.opts.Output, err)
	}
	r.w = w
	r.modules.w = w
	r.procs = newProcesses(w, r.modules)
	r.names = newSymbolizer(r.opts.DebugDirs)
	r.stacks = newStackTable(w, r.names, r.objs.Stacks)
	if r.opts.Stacks == StacksDwarf {
		r.snaps = newSnapshots(r.stacks.frames, &r.objs, &r.opts)
	}
	if r.calls != nil {
		for _, s := range r.calls.sites {
			if err := r.calls.describe(s); err != nil {
				return err
			}
		}
	}
	for _, n := range r.early {
		e := format.Event{Kind: format.KindNote, Time: start.Mono}
		e.V[format.NoteLevel] = flag(n.warning)
		e.V[format.NoteText] = uint64(w.String(n.text))
		if err := w.Append(&e); err != nil {
			return err
		}
	}
	r.early = nil
	return nil
}

// load brings the programs into the kernel, as far as it has what they hook.
func (r *recorder) load() error {
	// Before 5.11 maps counted against RLIMIT_MEMLOCK; since then against the
	// memory cgroup, and it does not matter that the limit cannot be raised.
	rlimit.RemoveMemlock()
	spec, err := bpf.LoadRaw()
	if err != nil {
		return fmt.Errorf("read BPF programs: %w", err)
	}
	r.sizeRing()
	spec.Maps["events"].MaxEntries = uint32(r.opts.RingSize)
	r.leaveOut(spec)
	if err := r.sizeCalls(spec); err != nil {
		return err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	for _, name := range []string{"scratches", "lost"} {
		spec.Maps[name].MaxEntries *= uint32(cpus)
	}
	for name, n := range r.rooms {
		spec.Maps[name].MaxEntries = n
	}
	vars := map[string]any{
		"stacks_by":   waysOfStacks[r.opts.Stacks],
		"stack_bytes": uint32(r.opts.StackSize &^ 7),
		"match_comms": len(r.opts.Comms) > 0,
		"wake_forks":  !probe.KernelKeepsProbes(),
		"recorder":    uint32(os.Getpid()),
		"tcp_all":     !r.opts.targeted(),
		"targeted":    r.opts.targeted(),
		"follow_hits": r.followsHits(),
		"tell_stacks": r.tellsCode(),
		"tell_left":   r.calls != nil,
		"tell_memory": slices.Contains(r.opts.packs(), "heap"),
		"tick_ns":     tick(),
	}
	for name, v := range vars {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s of the BPF programs: %w", name, err)
		}
	}
	types := btf.NewCache() // reading the kernel's takes longer than all else
	if _, err := types.Kernel(); err != nil {
		return fmt.Errorf("read the kernel's type information (/sys/kernel/btf/vmlinux): %w: tcap needs a kernel with CONFIG_DEBUG_INFO_BTF=y, as those of all large distributions are; see `tcap doctor`", err)
	}
	if err := spec.LoadAndAssign(&r.objs, &ebpf.CollectionOptions{Cache: types}); err != nil {
		return loadError(err)
	}
	if r.ring, err = openRing(r.objs.Events); err != nil {
		return fmt.Errorf("open the ring: %w", err)
	}
	if r.loss, err = newLedger(r.objs.Lost, monotonic()); err != nil {
		return fmt.Errorf("map the counters of what is lost: %w", err)
	}
	return nil
}

// tick is the period of the kernel's jiffies, ns: the resolution of its coarse
// clock (kernel/time/posix-timers.c).
func tick() uint32 {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		return uint32(4 * time.Millisecond)
	}
	return uint32(ts.Nano())
}

func loadError(err error) error {
	var ve *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
		return fmt.Errorf("load BPF programs: %w: tcap needs some hundred; raise the limit (ulimit -n)", err)
	case errors.As(err, &ve) && len(ve.Log) > 0: // it, too, answers that permission is denied
		return fmt.Errorf("load BPF programs: the kernel's verifier refused one; `tcap doctor` says what this kernel supports: %w", err)
	case errors.Is(err, os.ErrPermission):
		// Which map or program it was, and that locked memory may be the cause,
		// which it is not since 5.11, says nothing to whoever has no rights.
		return fmt.Errorf("load BPF programs: %w: run as root, or give tcap the capabilities that `tcap doctor` names", os.ErrPermission)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("load BPF programs: %w: `tcap doctor` says what this kernel lacks", err)
	}
	return fmt.Errorf("load BPF programs: %w", err)
}

// targetPids are the processes to follow that exist now: those that were asked for,
// and their descendants. nginx's master does nothing; who names it wants its workers.
func (r *recorder) targetPids() ([]uint32, error) {
	var pids []uint32
	for _, p := range r.opts.Pids {
		pids = append(pids, uint32(p))
	}
	if r.cmd != nil {
		pids = append(pids, uint32(r.cmd.pid()))
	}
	if len(r.opts.Comms) > 0 {
		all, err := os.ReadDir("/proc")
		if err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		for _, d := range all {
			pid, err := strconv.Atoi(d.Name())
			if err == nil && slices.Contains(r.opts.Comms, commOf(uint32(pid), uint32(pid))) {
				pids = append(pids, uint32(pid))
			}
		}
	}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, childrenOf(pids[i])...)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// childrenOf are the children that a process has now, but for tcap, which a shell may
// be told to record that it was started from.
func childrenOf(pid uint32) (list []uint32) {
	for _, child := range probe.Children(int(pid)) {
		if child != os.Getpid() {
			list = append(list, uint32(child))
		}
	}
	return list
}

// attach makes the kernel tell of the targets, from the general to the
// particular: first their lives, so that no child is missed, then the packs.
// It returns the targets that there are.
func (r *recorder) attach() ([]uint32, error) {
	pids, err := r.targetPids()
	if err != nil {
		return nil, err
	}
	if r.opts.targeted() || r.followsHits() {
		if err := r.attachProcesses(); err != nil {
			return nil, err
		}
		for _, c := range r.opts.Comms {
			var name [16]byte
			copy(name[:], c)
			if err := r.objs.Comms.Put(name, uint8(1)); err != nil {
				return nil, fmt.Errorf("follow comm %q: %w", c, err)
			}
		}
	}
	if pids, err = r.follow(pids); err != nil {
		return nil, err
	}
	if err := r.attachPacks(); err != nil {
		return nil, err
	}
	for _, pid := range pids {
		for _, p := range r.targetProbes() {
			if err := p.join(pid); err != nil {
				return nil, err
			}
		}
	}
	if err := r.findCode(); err != nil {
		return nil, err
	}
	if r.tcp == nil && r.calls == nil && r.heap != nil && r.heap.broken != nil {
		return nil, fmt.Errorf("nothing could be recorded: %w", r.heap.broken)
	}
	return pids, nil
}

// follow makes targets of processes, and of the children that they got before the
// programs knew them. The programs tell of those that come after.
func (r *recorder) follow(pids []uint32) ([]uint32, error) {
	for i := 0; i < len(pids); i++ {
		if err := r.objs.Targets.Put(pids[i], uint8(1)); err != nil {
			return nil, fmt.Errorf("follow pid %d: %w", pids[i], err)
		}
		r.alive[pids[i]] = true
		for _, child := range childrenOf(pids[i]) {
			var told uint8
			if !slices.Contains(pids, child) && errors.Is(r.objs.Targets.Lookup(child, &told), ebpf.ErrKeyNotExist) {
				pids = append(pids, child)
			}
		}
	}
	return pids, nil
}

// adopt learns what the running targets are like.
//
// What they have mapped is told as of the recording's start, which is before
// any event of theirs that the ring may hold already.
func (r *recorder) adopt(pids []uint32, start int64) error {
	for _, pid := range pids {
		tasks, err := os.ReadDir(procPath(pid, "task"))
		gone := len(tasks) <= 1 && ended(pid) // others outlive the first thread
		if err != nil && !gone {
			return fmt.Errorf("pid %d: list its threads: %w", pid, err)
		}
		if gone {
			if r.cmd == nil && len(r.opts.Pids) == 1 && pid == uint32(r.opts.Pids[0]) { // and no child that nobody has waited for
				return fmt.Errorf("pid %d: it ended while recording began", pid)
			}
			if err := r.forget(pid); err != nil {
				return err
			}
			continue
		}
		for _, t := range tasks {
			if tid, err := strconv.Atoi(t.Name()); err == nil {
				r.procs.thread(pid, uint32(tid))
			}
		}
		p := r.procs.process(pid)
		r.procs.readMaps(p)
		if err := r.tellMappings(p, start); err != nil {
			return err
		}
	}
	if r.tcp != nil {
		return r.tcp.snapshot(format.SnapshotStart)
	}
	return nil
}

// forget takes a process off the targets whose end the hooks came too late for.
// Its number will be another's.
func (r *recorder) forget(pid uint32) error {
	delete(r.alive, pid)
	if err := r.objs.Targets.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("pid %d: forget it, as it has ended: %w", pid, err)
	}
	return nil
}

// tracing opens tracefs, once.
func (r *recorder) tracing() (*tracefs.FS, error) {
	if r.fs != nil {
		return r.fs, nil
	}
	fs, err := tracefs.Open()
	if err != nil {
		return nil, err
	}
	r.fs = fs
	return fs, nil
}
