package probe

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/capture/tracefs"
)

// hitKey is what the counting program counts by.
type hitKey struct {
	PID, Cookie uint64
}

// counter is a BPF program that counts its runs by process and cookie.
type counter struct {
	prog *ebpf.Program
	hits *ebpf.Map
}

func newCounter(t testing.TB) *counter {
	t.Helper()
	hits, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, ValueSize: 8, MaxEntries: 4096})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hits.Close() })
	// key = {pid, cookie} at fp-16, value = 0 at fp-24.
	key := func(reg asm.Register) asm.Instructions {
		return asm.Instructions{asm.Mov.Reg(reg, asm.RFP), asm.Add.Imm(reg, -16)}
	}
	insns := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, -16, asm.R0, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnGetAttachCookie.Call(),
		asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, -24, asm.R0, asm.DWord),
		asm.LoadMapPtr(asm.R1, hits.FD()),
	}
	insns = append(insns, key(asm.R2)...)
	insns = append(insns,
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -24),
		asm.Mov.Imm(asm.R4, 1), // BPF_NOEXIST
		asm.FnMapUpdateElem.Call(),
		asm.LoadMapPtr(asm.R1, hits.FD()),
	)
	insns = append(insns, key(asm.R2)...)
	insns = append(insns,
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, Instructions: insns, License: "GPL"})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { prog.Close() })
	return &counter{prog, hits}
}

// counts returns the hits with a cookie, by process.
func (c *counter) counts(t testing.TB, cookie uint64) map[int]uint64 {
	t.Helper()
	got := map[int]uint64{}
	var k hitKey
	var n uint64
	it := c.hits.Iterate()
	for it.Next(&k, &n) {
		if k.Cookie == cookie {
			got[int(k.PID)] = n
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return got
}

// program is a running test program that waits for go.
type program struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	pid int
	a   *Attacher // for the children, if they are held
}

// start runs a program of testdata until it prints "ready PID".
func start(t testing.TB, exe string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(exe, args...)}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	if !p.out.Scan() {
		t.Fatalf("%s printed nothing: %v", exe, p.out.Err())
	}
	if _, err := fmt.Sscanf(p.out.Text(), "ready %d", &p.pid); err != nil {
		t.Fatalf("%s printed %q", exe, p.out.Text())
	}
	return p
}

// family starts family.c so that its children wait for the attacher where it
// needs them.
func family(t testing.TB, a *Attacher, exe, scenario string) *program {
	t.Helper()
	args := []string{scenario}
	if a.NeedsChildren() {
		args = append(args, "held")
	}
	p := start(t, exe, args...)
	p.a = a
	return p
}

// bear lets a child go on that has just been born.
func (p *program) bear(t testing.TB, pid, fd int) {
	t.Helper()
	if err := p.a.AddChild(pid); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(procPath(pid, "fd", strconv.Itoa(fd)), []byte{1}, 0); err != nil {
		t.Fatal(err)
	}
}

// finish lets the program go on, and returns the hits it and its family
// report, by process.
func (p *program) finish(t testing.TB) map[int]uint64 {
	t.Helper()
	if _, err := p.in.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	want := map[int]uint64{}
	for p.out.Scan() {
		var pid, fd int
		var n uint64
		if _, err := fmt.Sscanf(p.out.Text(), "born %d %d", &pid, &fd); err == nil {
			p.bear(t, pid, fd)
			continue
		}
		if _, err := fmt.Sscanf(p.out.Text(), "%d %d", &pid, &n); err != nil {
			t.Fatalf("the program printed %q", p.out.Text())
		}
		want[pid] += n
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return want
}

// hitPoints returns the points of hit() in an executable: entry and return.
func hitPoints(t testing.TB, exe string) (entry, ret Point) {
	t.Helper()
	e, err := OpenELF(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s, err := e.Lookup("hit")
	if err != nil {
		t.Fatal(err)
	}
	entry = Point{Name: "hit", Path: exe, Offset: s.Offset}
	ret = entry
	ret.Return = true
	return entry, ret
}

func openTracefs(t testing.TB) *tracefs.FS {
	t.Helper()
	fs, err := tracefs.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs
}

func newAttacher(t testing.TB, fs *tracefs.FS) *Attacher {
	t.Helper()
	a, err := NewAttacher(fs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func attach(t testing.TB, a *Attacher, p Point, c *counter, cookie uint64) *Attachment {
	t.Helper()
	att, err := a.Attach(p, c.prog, cookie)
	if err != nil {
		t.Fatal(err)
	}
	return att
}

func equal(a, b map[int]uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// definitions returns the lines of uprobe_events that contain s.
func definitions(t testing.TB, s string) []string {
	t.Helper()
	data, err := os.ReadFile("/sys/kernel/tracing/uprobe_events")
	if err != nil {
		kerneltest.Skip(t, err.Error())
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, s) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// startStopped starts a command that is stopped before its first instruction.
// It is traced by the calling thread, whose death would kill it.
func startStopped(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil {
		return err
	}
	if !status.Stopped() {
		return fmt.Errorf("the process did not stop: %x", status)
	}
	return nil
}
