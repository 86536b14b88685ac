package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
	"golang.org/x/sys/unix"
)

// processes follows who the recorded tasks are: their names, their address
// spaces and what is mapped there. It is fed in the ring's order, so that an
// address is explained by what was mapped when it was seen.
type processes struct {
	w       *format.Writer
	byPid   map[uint32]*process
	byTid   map[uint32]*thread
	spaces  uint32 // address spaces numbered so far
	modules *modules

	lastTid uint32 // the thread of the event before, most likely this one's too
	last    *thread
}

// A process is a thread group at one stage: exec gives it a new space.
type process struct {
	pid   uint32
	uid   uint32
	space *space
	image image // zero: not told
}

// A space is an address space. vfork children share their parent's.
type space struct {
	id       uint32
	owner    *process // that it began with
	users    int      // processes in it
	mappings []mapping
	brk      uint64                    // the program break; 0 until it was seen
	changes  uint32                    // bumped when an address may have got another meaning
	stacks   map[uint64]format.StackID // rows by hash, as addresses read now
	jit      *module                   // stands for code that the program made itself; nil until it is known of
	code     *codeMaps                 // mappings as they are unwound; nil to be made
}

// A mapping is an executable mapping of a file, or of the vdso.
type mapping struct {
	start, end uint64
	offset     uint64 // of start in the file
	module     *module
}

type thread struct {
	proc *process
	tid  uint32
	comm string
	task format.TaskID // row for the present name and space; 0 to be made
}

func newProcesses(w *format.Writer, m *modules) *processes {
	return &processes{w: w, byPid: map[uint32]*process{}, byTid: map[uint32]*thread{}, modules: m}
}

func (ps *processes) newSpace(owner *process) *space {
	ps.spaces++
	return &space{id: ps.spaces, owner: owner, users: 1}
}

// process returns the process of a pid, made on first sight.
func (ps *processes) process(pid uint32) *process {
	p := ps.byPid[pid]
	if p == nil {
		p = &process{pid: pid, uid: uidOf(pid)}
		p.space = ps.newSpace(p)
		ps.byPid[pid] = p
	}
	return p
}

// thread returns the thread of a tid, made on first sight with the name it has now.
func (ps *processes) thread(pid, tid uint32) *thread {
	if tid == ps.lastTid && ps.last != nil && ps.last.proc.pid == pid {
		return ps.last
	}
	t := ps.byTid[tid]
	if t == nil || t.proc.pid != pid {
		t = &thread{proc: ps.process(pid), tid: tid, comm: commOf(pid, tid)}
		ps.byTid[tid] = t
	}
	ps.lastTid, ps.last = tid, t
	return t
}

// task returns the row of the task table for a thread as it is now.
func (ps *processes) task(pid, tid uint32) format.TaskID {
	t := ps.thread(pid, tid)
	if t.task == 0 {
		t.task = ps.w.Task(format.Task{Pid: pid, Tid: tid, Space: t.proc.space.id, Uid: t.proc.uid, Comm: t.comm})
	}
	return t.task
}

func (ps *processes) rename(pid, tid uint32, comm string) {
	t := ps.thread(pid, tid)
	if t.comm != comm {
		t.comm, t.task = comm, 0
	}
}

// fork notes a new process, or a new thread when childPid is the parent's pid.
func (ps *processes) fork(parent *process, childPid, childTid uint32, sharedVM bool, comm string) *process {
	if childPid == parent.pid {
		ps.byTid[childTid] = &thread{proc: parent, tid: childTid, comm: comm}
		return parent
	}
	child := &process{pid: childPid, uid: parent.uid, image: parent.image}
	if sharedVM {
		child.space = parent.space
		child.space.users++
	} else {
		child.space = ps.newSpace(child)
		child.space.mappings = append([]mapping(nil), parent.space.mappings...)
		child.space.brk = parent.space.brk
	}
	ps.byPid[childPid] = child
	ps.byTid[childTid] = &thread{proc: child, tid: childTid, comm: comm}
	return child
}

// exec gives the process a new address space and leaves it one thread.
func (ps *processes) exec(pid, uid uint32, comm string) *process {
	p := ps.process(pid)
	p.space.users--
	p.space = ps.newSpace(p)
	p.uid = uid
	for tid, t := range ps.byTid {
		if t.proc == p && tid != pid {
			delete(ps.byTid, tid)
		}
	}
	ps.byTid[pid] = &thread{proc: p, tid: pid, comm: comm}
	ps.last = nil
	return p
}

// exit forgets a thread, and its process when gone is set. It reports whether
// the address space went with it.
func (ps *processes) exit(pid, tid uint32, gone bool) (spaceGone bool) {
	delete(ps.byTid, tid)
	ps.last = nil
	if !gone {
		return false
	}
	p := ps.byPid[pid]
	if p == nil {
		return false
	}
	delete(ps.byPid, pid)
	for id, t := range ps.byTid {
		if t.proc == p {
			delete(ps.byTid, id)
		}
	}
	p.space.users--
	return p.space.users == 0
}

// mapped adds a mapping; what it covers is gone.
func (s *space) mapped(m mapping) {
	s.unmapped(m.start, m.end)
	s.mappings, s.code = append(s.mappings, m), nil
}

// unmapped takes a range out, cutting mappings that lie partly in it. It
// reports whether there were any.
func (s *space) unmapped(start, end uint64) bool {
	gone := func(m mapping) bool { return m.start < end && start < m.end }
	if !slices.ContainsFunc(s.mappings, gone) { // as nearly always: most of what is unmapped is no code
		return false
	}
	var kept []mapping
	for _, m := range s.mappings {
		if !gone(m) {
			kept = append(kept, m)
			continue
		}
		if m.start < start {
			kept = append(kept, mapping{m.start, start, m.offset, m.module})
		}
		if end < m.end {
			kept = append(kept, mapping{end, m.end, m.offset + end - m.start, m.module})
		}
	}
	s.mappings, s.stacks, s.code = kept, nil, nil
	s.changes++
	return true
}

// find gives the module and the file offset of an address.
func (s *space) find(addr uint64) (*module, uint64) {
	for i := range s.mappings {
		if m := &s.mappings[i]; m.start <= addr && addr < m.end {
			return m.module, m.offset + addr - m.start
		}
	}
	return nil, addr
}

// readMaps takes the executable mappings of files, and of the vdso, of a process
// from /proc. A process that ended meanwhile has none.
func (ps *processes) readMaps(p *process) {
	f, err := os.Open(procPath(p.pid, "maps"))
	if err != nil {
		return
	}
	defer f.Close()
	all, err := symbol.ParseMaps(f)
	if err != nil {
		return
	}
	for _, m := range all {
		var mod *module
		switch {
		case !m.Exec:
		case m.Inode != 0:
			mod = ps.modules.open(p.pid, m)
		case m.Path == symbol.VDSOName:
			mod = ps.modules.openVDSO(m)
		}
		if mod != nil {
			p.space.mapped(mapping{start: m.Start, end: m.End, offset: m.Offset, module: mod})
		}
	}
}

// execMaps takes the mappings that a process has after an exec. By the time that
// its record is read, the process may have ended, or replaced its image again:
// what /proc says then is not about this image, and only the executable is
// known, by what the record says.
func (ps *processes) execMaps(p *process, x *bpf.RawExec) {
	p.image = imageIn(x)
	if p.image.runs(p.pid) {
		ps.readMaps(p)
		if p.image.runs(p.pid) {
			return
		}
		p.space.mappings, p.space.code = nil, nil
	}
	mod := ps.modules.openExec(p.pid, moduleKey{userDev(x.Dev), x.Ino}, cstring(x.Path[:]))
	if mod.file == nil {
		return
	}
	if addr, offset, ok := symbol.CodeSegment(mod.file); ok {
		const page = 1 << 12
		start := x.StartCode &^ (page - 1)
		p.space.mapped(mapping{start: start, end: x.EndCode, offset: offset - addr%page, module: mod})
	}
}

// An image is where a process's executable has its code and where its stack begins, and
// which executable it is. No two share both places that one process has soon after another,
// unless nothing is random (ADDR_NO_RANDOMIZE) and their arguments are as long; then the
// executable tells.
type image struct {
	startCode, startStack uint64
	exe                   moduleKey
}

func imageIn(x *bpf.RawExec) image {
	return image{x.StartCode, x.StartStack, moduleKey{userDev(x.Dev), x.Ino}}
}

// runs reports whether it is the image that a process has now.
func (i image) runs(pid uint32) bool {
	b, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return false
	}
	rest := string(b[bytes.LastIndexByte(b, ')')+1:]) // the name before may hold anything
	const code, stack = 26 - 3, 28 - 3                // startcode and startstack in proc_pid_stat(5); rest begins with the third
	f := strings.Fields(rest)
	if len(f) <= stack {
		return false
	}
	startCode, _ := strconv.ParseUint(f[code], 10, 64)
	startStack, _ := strconv.ParseUint(f[stack], 10, 64)
	if startCode != i.startCode || startStack != i.startStack {
		return false
	}
	exe, err := os.OpenFile(procPath(pid, "exe"), unix.O_PATH, 0)
	if err != nil {
		return errors.Is(err, fs.ErrPermission) // then it is not to be known
	}
	defer exe.Close()
	return sameFile(exe, i.exe, pid)
}

func procPath(pid uint32, parts ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(int(pid))}, parts...)...)
}

// commOf reads a thread's name; "" when it is gone.
func commOf(pid, tid uint32) string {
	b, err := os.ReadFile(procPath(pid, "task", strconv.Itoa(int(tid)), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

// ended reports whether a process is gone, or has no memory any more: it is about
// to be a zombie, or is one.
func ended(pid uint32) bool {
	b, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
	}
	return statusField(string(b), "VmSize:") == ""
}

// uidOf reads a process's effective user id; 0 when it is gone.
func uidOf(pid uint32) uint32 {
	b, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var real, effective uint32
		if n, _ := fmt.Sscanf(line, "Uid: %d %d", &real, &effective); n == 2 {
			return effective
		}
	}
	return 0
}
