package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/format"
)

// leaksOf counts the blocks that crowd.c's threads or children leak.
func leaksOf(t *testing.T, path string) int {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := 0
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc)}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.V[format.AllocSize] == 555 {
			n++
		}
	}
	return n
}

// Every thread and every child of a crowd is recorded, also of one in
// namespaces of its own, and under a recorder that is recorded.
func TestCrowds(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	exe := kerneltest.Build(t, faults+"crowd.c")
	threads, forks := kerneltest.Repeat(2000), kerneltest.Repeat(1000)
	dir := t.TempDir()
	inner := filepath.Join(dir, "inner")
	for name, tt := range map[string]struct {
		command string
		want    int
		file    string
	}{
		"threads":    {fmt.Sprintf("%s threads %d", exe, threads), threads, "threads"},
		"forks":      {fmt.Sprintf("%s forks %d", exe, forks), forks, "forks"},
		"namespaces": {fmt.Sprintf("unshare -p -m -f --mount-proc %s forks 50", exe), 50, "namespaces"},
		"recorder":   {fmt.Sprintf("%s record -o %s -- %s forks 50", program, inner, exe), 50, "inner"},
	} {
		path := filepath.Join(dir, name)
		o := tcap(t, append([]string{"record", "-o", path, "--"}, strings.Fields(tt.command)...)...)
		// Older kernels may take probes away from a child's children, which is told.
		excused := !probe.KernelKeepsProbes() && strings.Contains(o.stderr, "before 6.12")
		if o.code != exitOK || !strings.Contains(o.stderr, "none lost") || strings.Contains(o.stderr, "warning") && !excused {
			t.Errorf("%s: exit %d, stderr %q", name, o.code, o.stderr)
		}
		intact(t, path)
		if excused {
			t.Logf("%s: %s", name, o.stderr)
			continue
		}
		if n := leaksOf(t, filepath.Join(dir, tt.file)); n != tt.want {
			t.Errorf("%s: %d leaks recorded, want %d", name, n, tt.want)
		}
	}
}

// Two recorders of one target both have everything.
func TestTwoRecorders(t *testing.T) {
	t.Parallel()
	k := startBusy(t)
	var cmds []*exec.Cmd
	var paths []string
	for i := range 2 {
		path := filepath.Join(k.dir, fmt.Sprint(i))
		cmd := exec.Command(program, "record", "-o", path, "-p", k.pid())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		cmds, paths = append(cmds, cmd), append(paths, path)
	}
	if !eventually(func() bool { return fileSize(paths[0]) > 8<<10 && fileSize(paths[1]) > 8<<10 }) {
		t.Fatal("the recordings do not begin")
	}
	both := k.told.marks()
	for _, cmd := range cmds {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	for _, path := range paths {
		intact(t, path)
		if s := k.exact(path); s.last < int(both)-1 {
			t.Errorf("%s: the last mark is %d, want %d or later", path, s.last, both-1)
		}
	}
	k.harmless()
}

// A target that ends while it is attached to, at whatever moment, is an error
// that says so or the end of a complete recording.
func TestTargetEndsWhileAttaching(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	dir := t.TempDir()
	const atOnce = 20
	slots := make(chan bool, atOnce)
	var wg sync.WaitGroup
	for i := range kerneltest.Repeat(100) {
		slots <- true
		wg.Go(func() {
			defer func() { <-slots }()
			// Attaching takes a tenth of a second or more.
			target := exec.Command("sleep", fmt.Sprintf("%.3f", float64(i)*0.004))
			if err := target.Start(); err != nil {
				t.Error(err)
				return
			}
			waited := make(chan bool)
			go func() { target.Wait(); close(waited) }()
			defer func() { target.Process.Kill(); <-waited }()
			path := filepath.Join(dir, fmt.Sprint(i))
			o := tcap(t, "record", "-o", path, "-p", fmt.Sprint(target.Process.Pid), "-d", "30s")
			_, err := os.Stat(path)
			switch {
			case o.code == exitOK && strings.Contains(o.stderr, "last target exited") && !strings.Contains(o.stderr, "warning") && err == nil:
				intact(t, path)
			case o.code == exitFailed && strings.Contains(o.stderr, fmt.Sprintf("tcap: pid %d", target.Process.Pid)) && os.IsNotExist(err):
			default:
				t.Errorf("a target of %d ms: exit %d, stderr %q, file: %v", i*4, o.code, o.stderr, err)
			}
		})
	}
	wg.Wait()
}

// Too few descriptors are refused with what is needed; with enough all goes well.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	for _, n := range []int{20, 100, 256, 1000} {
		path := filepath.Join(t.TempDir(), "run.tcap")
		o := finish(t, exec.Command("bash", "-c", `ulimit -n $1; exec "$0" record -o "$2" -- ls /`, program, fmt.Sprint(n), path))
		switch {
		case n < 256 && o.code == exitFailed && strings.Contains(o.stderr, "ulimit -n") && strings.Count(o.stderr, "\n") == 1:
		case n >= 256 && o.code == exitOK && strings.Count(o.stderr, "\n") == 1:
			intact(t, path)
		default:
			t.Errorf("%d descriptors: exit %d, stderr %q", n, o.code, o.stderr)
		}
	}
}

// elsewhere runs tcap in a mount namespace after a shell has prepared it.
func elsewhere(t *testing.T, prepare string, args ...string) outcome {
	t.Helper()
	kerneltest.Require(t)
	script := "mount --make-rprivate / && " + prepare + ` && exec "$@"`
	return finish(t, exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "sh", program}, args...)...))
}

// A kernel without type information cannot be recorded, and tcap says so.
func TestNoBTF(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, hide := range []string{"mount --bind " + empty + " /sys/kernel/btf/vmlinux", "mount -t tmpfs none /sys/kernel/btf"} {
		path := filepath.Join(t.TempDir(), "run.tcap")
		o := elsewhere(t, hide, "record", "-o", path, "--", "echo", "ran")
		if o.code != exitFailed || !strings.Contains(o.stderr, "CONFIG_DEBUG_INFO_BTF") || !strings.Contains(o.stderr, "doctor") || o.stdout != "" {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", hide, o.code, o.stdout, o.stderr)
		}
		if fileSize(path) != 0 {
			t.Error("a file is left")
		}
	}
}

// Where tracefs is not mounted, root records all the same.
func TestNoTracefs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.tcap")
	exe := kerneltest.Build(t, faults+"crowd.c")
	o := elsewhere(t, "mount -t tmpfs none /sys/kernel/tracing && mount -t tmpfs none /sys/kernel/debug",
		"record", "-o", path, "-e", "heap", "-e", "tcp", "--", exe, "forks", "10")
	if o.code != exitOK || strings.Contains(o.stderr, "warning") {
		t.Errorf("exit %d, stderr %q", o.code, o.stderr)
	}
	intact(t, path)
	if n := leaksOf(t, path); n != 10 {
		t.Errorf("%d leaks recorded, want 10", n)
	}
}

// With CAP_BPF and CAP_PERFMON alone, tracefs is out of reach. What that costs
// and what to do is said; packs that were asked for by name are an error, and
// so is a recording that would have none.
func TestFewCapabilities(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	dir, err := os.MkdirTemp("", "tcap-caps") // t.TempDir is root's alone
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "run.tcap")
	for _, tt := range []struct{ args, says string }{
		{"-e tcp -d 10ms", "pack tcp"},
		{"-e heap -- ls /", "pack heap"},
		{"-- ls /", "doctor"},
	} {
		const caps = "-all,+bpf,+perfmon"
		argv := append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", caps, "--ambient-caps", caps,
			"--bounding-set", caps, program, "record", "-o", path}, strings.Fields(tt.args)...)
		o := finish(t, exec.Command("setpriv", argv...))
		switch {
		case o.code == exitFailed && strings.Contains(o.stderr, tt.says) && strings.Contains(o.stderr, "tracefs"):
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s: a file is left", tt.args)
			}
		default:
			t.Errorf("%s: exit %d, stderr %q", tt.args, o.code, o.stderr)
		}
		os.Remove(path)
	}
}

// TestPipes: a target may name a pipe where a library, or a list of them, is to be
// looked for. Nobody waits for its other end.
func TestPipes(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "../../testdata/programs/faults/busy.c", "-static")
	pipe := filepath.Join(t.TempDir(), "libjemalloc.so.2")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	target := exec.Command(exe, filepath.Join(t.TempDir(), "progress"))
	target.Env = append(os.Environ(), "LD_PRELOAD="+pipe)
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { target.Process.Kill(); target.Wait() }()
	path := filepath.Join(t.TempDir(), "run.tcap")
	if o := tcap(t, "record", "-o", path, "-p", fmt.Sprint(target.Process.Pid), "-d", "100ms"); o.code != exitOK {
		t.Errorf("exit %d, %s", o.code, o.stderr)
	}
	intact(t, path)
	if o := tcap(t, "probes", "list", "uprobe:"+pipe+":*"); o.code != exitFailed || !strings.Contains(o.stderr, "is no regular file") {
		t.Errorf("probes list: exit %d, %s", o.code, o.stderr)
	}
}

// TestDescendants: the children that a target had before, and theirs, are recorded with
// it; and not tcap, which may be one of them.
func TestDescendants(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "../../testdata/programs/faults/busy.c")
	progress, path := filepath.Join(t.TempDir(), "progress"), filepath.Join(t.TempDir(), "run.tcap")
	shell := exec.Command("sh", "-c", `sh -c '"$0" "$1" & echo $!; wait' "$0" "$1" & read go; "$2" record -q -o "$3" -p $$ -d 300ms; wait`, exe, progress, program, path)
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { syscall.Kill(-shell.Process.Pid, syscall.SIGKILL); shell.Wait() }()
	var grandchild uint32
	if _, err := fmt.Fscan(out, &grandchild); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in)
	if !eventually(func() bool {
		r, err := format.Open(path)
		if err != nil {
			return false
		}
		defer r.Close()
		_, ended := r.Trailer()
		return ended
	}) {
		t.Fatal("nothing is recorded")
	}
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	of := map[uint32]int{}
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc)}) {
		if err != nil {
			t.Fatal(err)
		}
		of[r.Task(e.Task).Pid]++
	}
	if of[grandchild] == 0 || len(of) > 2 {
		t.Errorf("allocations by process: %v; want those of %d, and perhaps of the shell", of, grandchild)
	}
}
