package capture_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/analyze"
	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// TestProcessFork: one address is live in parent and child, and what the child
// frees of its copy stays the parent's (pitfall 11).
func TestProcessFork(t *testing.T) {
	r := record(t, build(t, "procs.c"), "forks").complete()
	if r.value["child"] != r.value["parent"] {
		t.Error("the two blocks have two addresses: this proves less than it says")
	}
	l := r.leaked()
	if l.Inherited != 2 {
		t.Errorf("%d inherited frees, want 2", l.Inherited)
	}
}

// TestProcessSharedMemory: children of vfork and clone act on the parent's
// own memory (pitfall 11).
func TestProcessSharedMemory(t *testing.T) {
	r := record(t, build(t, "procs.c"), "vforks").complete()
	if l := r.leaked(); l.Inherited != 0 {
		t.Errorf("%d inherited frees in shared memory", l.Inherited)
	}
	for _, h := range r.events(format.KindFork) {
		if h.V[format.ForkSharedVM] != 1 || h.V[format.ForkChildSpace] != uint64(h.task.Space) {
			t.Errorf("fork %+v does not share", h)
		}
	}
}

// TestProcessSpawn: posix_spawn, and the program that it runs.
func TestProcessSpawn(t *testing.T) {
	exe := build(t, "procs.c")
	r := record(t, exe, "spawn", exe, "leak", "7", "13").complete()
	// The spawned program's, said last but one, and the spawner's 9 bytes.
	l := r.leaks()
	if want := (analyze.Amount{Bytes: 7*13 + 9, Blocks: 8}); l.Total != want || l.UnknownFrees != 0 {
		t.Errorf("leaks %+v, %d unknown frees; want %+v and none\n%s", l.Total, l.UnknownFrees, want, r.text(l))
	}
}

// TestProcessExec: what exec drops is no leak (pitfall 12).
func TestProcessExec(t *testing.T) {
	exe := build(t, "procs.c")
	r := record(t, exe, "become", exe, "leak", "3", "17").complete()
	l := r.leaked()
	if want := (analyze.Amount{Bytes: 5000, Blocks: 5}); l.AtExec != want {
		t.Errorf("at exec %+v, want %+v", l.AtExec, want)
	}
}

// TestProcessPidReuse: two processes, one after the other, with one pid
// (pitfall 13).
func TestProcessPidReuse(t *testing.T) {
	r := record(t, build(t, "procs.c"), "reuse").complete()
	if reason, ok := r.value["unable"]; ok {
		kerneltest.Skip(t, "pids cannot be chosen: "+reason)
	}
	if r.value["reused"] != "1" {
		t.Fatal("no pid was used twice")
	}
	r.leaked()
	spaces := map[uint64]bool{}
	for _, h := range r.events(format.KindFork) {
		space := h.V[format.ForkChildSpace]
		if spaces[space] {
			t.Errorf("two children in space %d", space)
		}
		spaces[space] = true
	}
}

// TestProcessSeveral: several pids in one recording, which ends with the last.
func TestProcessSeveral(t *testing.T) {
	exe := build(t, "heap.c", "-ldl")
	var list []*target
	for range 3 {
		p := start(t, exe, "serve")
		p.await("ready")
		list = append(list, p)
	}
	bystander := start(t, exe, "serve")
	bystander.await("ready")
	rec := attachTo(t, list...)
	bystander.tell('m')
	bystander.await("done")
	for i, p := range list {
		for range i + 1 {
			p.tell('m')
			p.await("done")
		}
		p.tell('q')
		p.wait()
	}
	r := rec.ended("")
	l := r.leaks()
	if want := (analyze.Amount{Bytes: 6 * 77, Blocks: 6}); l.Total != want || r.sum.Reason != capture.EndTargets {
		t.Errorf("leaks %+v, ended because %q; want %+v, %q", l.Total, r.sum.Reason, want, capture.EndTargets)
	}
	byPid := map[uint32]int{}
	for _, h := range r.events(format.KindAlloc) {
		byPid[h.task.Pid]++
	}
	for i, p := range list {
		if n := byPid[uint32(p.cmd.Process.Pid)]; n != i+1 {
			t.Errorf("process %d: %d allocations, want %d", i, n, i+1)
		}
	}
	if n := byPid[uint32(bystander.cmd.Process.Pid)]; n != 0 {
		t.Errorf("a process that is no target has %d allocations", n)
	}
}

// TestProcessComm: --comm takes processes of a name that run already, and
// those that appear while recording.
func TestProcessComm(t *testing.T) {
	exe := build(t, "heap.c", "-ldl")
	text, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	name := "tcapcomm" + itoa(os.Getpid()%1000)
	named := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(named, text, 0o700); err != nil {
		t.Fatal(err)
	}
	ask := func(p *target, times int) {
		for range times {
			p.tell('m')
			p.await("done")
		}
	}
	old, other := start(t, named, "serve"), start(t, exe, "serve")
	old.await("ready")
	other.await("ready")
	rec := attach(t, func(o *capture.Options) { o.Comms = []string{name} })
	ask(old, 1)
	ask(other, 1)
	young := start(t, named, "serve")
	young.await("ready")
	awaitProbes(t, young.cmd.Process.Pid, libcOf(t, young.cmd.Process.Pid), "malloc")
	ask(young, 2)
	for _, p := range []*target{old, other, young} {
		p.tell('q')
		p.wait()
	}
	r := rec.stop("")
	l := r.leaks()
	if want := (analyze.Amount{Bytes: 3 * 77, Blocks: 3}); l.Total != want {
		t.Errorf("leaks %+v, want %+v\n%s", l.Total, want, r.text(l))
	}
	if !strings.Contains(r.notes, "a moment after their exec") {
		t.Errorf("tcap did not say that the beginning of a process that appears is missed: %q", r.notes)
	}
}

// libcOf is the C library that a process has mapped.
func libcOf(t *testing.T, pid int) string {
	t.Helper()
	maps, err := os.ReadFile("/proc/" + itoa(pid) + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) == 6 && strings.HasSuffix(f[5], "/libc.so.6") {
			return f[5]
		}
	}
	t.Fatalf("process %d has no libc", pid)
	return ""
}

// TestProcessExecOther: a target becomes another program. One with a libc
// that is probed already is recorded from its first call. One with an allocator
// of its own is recorded from when the recorder has seen the exec: what it
// did until then is missing, and the capture says so.
func TestProcessExecOther(t *testing.T) {
	procs := build(t, "procs.c")
	t.Run("same libc", func(t *testing.T) {
		r := record(t, procs, "become", build(t, "heap.c", "-ldl"), "leak", "50", "10").complete()
		r.leaked()
	})
	for _, c := range []struct {
		name string
		exe  string
	}{
		{"static", build(t, "heap.c", "-static", "-DNO_DLVSYM=1")},
		{"musl", build(t, "heap.c", musl)},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, notes := options(t)
			r := recordWith(t, o, notes, procs, "become", c.exe, "leak", "50", "10")
			l := r.leaks()
			t.Logf("%d of 50 blocks recorded, %q", l.Total.Blocks, r.notes)
			if l.Total.Blocks < 50 && !strings.Contains(r.notes, "is not recorded") {
				t.Errorf("what was missed is not told: %d of 50 blocks recorded, %q", l.Total.Blocks, r.notes)
			}
			if l.Total.Blocks > 50 || l.AtExec.Blocks != 5 {
				t.Errorf("leaks %+v, at exec %+v", l.Total, l.AtExec)
			}
		})
	}
}
