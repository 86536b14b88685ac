package capture_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// A laterProgram waits until it is told to go on.
type laterProgram struct {
	*exec.Cmd
	in io.WriteCloser
}

// startLater starts a program in a mode of testdata/programs/calls that waits.
func startLater(t *testing.T, attr *syscall.SysProcAttr, argv ...string) laterProgram {
	t.Helper()
	kerneltest.Require(t)
	p := laterProgram{Cmd: exec.Command(argv[0], argv[1:]...)}
	p.SysProcAttr = attr
	var err error
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	startAndWait(t, p.Cmd)
	return p
}

// goOn sends a line.
func (p laterProgram) goOn(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		t.Fatal(err)
	}
}

// recordLater records a process that waits, which do makes go on.
func recordLater(t *testing.T, p laterProgram, program string, probes []string, do func()) ([]recordedCall, string) {
	t.Helper()
	o, said := options(t)
	o.Packs, o.Pids = nil, []int{p.Process.Pid}
	o.Probes = declarations(t, program, probes...)
	recordWhile(t, o, said, do)
	return calls(t, o.Output)
}

// copyOf copies a program to a path.
func copyOf(t *testing.T, from, to string) string {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
			err = os.WriteFile(to, data, 0o755)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// The program of a process is found whatever has become of its path: in a root
// directory and mount namespace of its own, deleted, replaced by another.
func TestCallsOfProcesses(t *testing.T) {
	plain := callsProgram(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	copyOf(t, callsProgram(t, "-static"), root+"/opt/app")
	for _, c := range some([]struct {
		name, path string // as the process knows it
		attr       *syscall.SysProcAttr
		begun      func(path string)
	}{
		{"container", "/opt/app", &syscall.SysProcAttr{Chroot: root, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}, nil},
		{"deleted", copyOf(t, plain, t.TempDir()+"/app"), nil, func(path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}},
		{"replaced", copyOf(t, plain, t.TempDir()+"/app"), nil, func(path string) {
			if err := os.Rename(copyOf(t, "/bin/true", path+".new"), path); err != nil {
				t.Fatal(err)
			}
		}},
	}) {
		t.Run(c.name, func(t *testing.T) {
			p := startLater(t, c.attr, c.path, "later", "args", "2")
			if c.begun != nil {
				c.begun(c.path)
			}
			list, _ := recordLater(t, p, c.path, []string{"uretprobe:@:handle(fd=u32(arg0->24), rc=i64(retval))"}, func() {
				p.goOn(t)
				p.Wait()
			})
			sameLines(t, "handle", only(list, "handle"), []string{"returned depth=1 fd=0 rc=0", "returned depth=1 fd=1 rc=-2"})
			for _, x := range list {
				if int(x.task.Pid) != p.Process.Pid {
					t.Errorf("pid %d, want %d", x.task.Pid, p.Process.Pid)
				}
			}
		})
	}
}

// A library that was not there when the recording began is probed when the target
// maps it.
func TestCallsOfLater(t *testing.T) {
	program := callsProgram(t)
	plugin := kerneltest.Build(t, "../testdata/programs/calls/plugin.c", "-O2", "-shared", "-fPIC")
	for _, pattern := range some([]string{"plugin.so", "*.so"}) {
		t.Run(pattern, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "plugin.so")
			p := startLater(t, nil, program, "later", "loads", path, "3")
			list, notes := recordLater(t, p, filepath.Join(dir, pattern), []string{"uretprobe:@:inner(n=i64(arg0), r=i64(retval))"}, func() {
				copyOf(t, plugin, path)
				p.goOn(t) // it loads the library, and reads
				awaitMapping(t, p.Process.Pid, path)
				awaitProbes(t, p.Process.Pid, path, "inner")
				p.in.Close()
				p.Wait()
			})
			sameLines(t, "inner", only(list, "inner"), []string{"returned depth=1 n=0 r=0", "returned depth=1 n=1 r=3", "returned depth=1 n=2 r=6"})
			if !strings.Contains(notes, "there is no such file") || strings.Contains(notes, "never hit") {
				t.Errorf("notes: %s", notes)
			}
		})
	}
}

// A call that began before the recording is not seen to return; the next is whole.
func TestCallsInFlight(t *testing.T) {
	program := callsProgram(t)
	p := startLater(t, nil, program, "reads", "3")
	list, notes := recordLater(t, p, program, []string{"uretprobe:@:reads(n=i32(arg0), r=i32(retval))"}, func() {
		p.in.Close()
		p.Wait()
	})
	sameLines(t, "reads", only(list, "reads"), []string{"returned depth=1 n=1 r=2", "returned depth=1 n=2 r=3"})
	if notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

// Calls that end with their process are left.
func TestCallsThatExit(t *testing.T) {
	program := callsProgram(t)
	list, notes := recordCalls(t, []string{program, "exits", "1"}, "uretprobe:@:exits(n=i32(arg0), r=i32(retval))")
	sameLines(t, "exits", only(list, "exits"), []string{"left depth=2 n=0 r=?", "left depth=1 n=1 r=?"})
	if notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

// Who calls is what the kernel says: process, thread, user, name, and the group of
// cgroup v2.
func TestCallsBy(t *testing.T) {
	group, id := testGroup(t)
	dir, err := os.MkdirTemp("", "tcap-test-") // which another user may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := copyOf(t, callsProgram(t), filepath.Join(dir, "calls"))
	const uid = 4711
	p := startLater(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}, program, "later", "threads")
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, p.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	list, _ := recordLater(t, p, program, []string{
		fmt.Sprintf("uprobe:@:handle(pid, tid, uid, cgroup, comm) /uid == %d && cgroup == %d/", uid, id),
	}, func() {
		p.goOn(t)
		p.Wait()
	})
	threads := map[uint32]int{}
	for _, c := range list {
		threads[c.task.Tid]++
		want := fmt.Sprintf("pid=%d tid=%d uid=%d cgroup=%d comm=%s", p.Process.Pid, c.task.Tid, uid, id, c.task.Comm)
		if c.args != want || c.task.Uid != uid {
			t.Fatalf("%+v, want %s", c, want)
		}
	}
	if len(list) != 2000 || len(threads) != 4 || threads[uint32(p.Process.Pid)] > 0 {
		t.Errorf("%d calls of threads %v", len(list), threads)
	}
}

// testGroup makes a group of cgroup v2, and returns its directory and id.
func testGroup(t *testing.T) (string, uint64) {
	t.Helper()
	kerneltest.Require(t)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if !strings.Contains(line, " - cgroup2 ") || len(f) < 5 {
			continue
		}
		dir, err := os.MkdirTemp(f[4], "tcap-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) }) // it is empty once its process was waited for
		var st syscall.Stat_t
		if err := syscall.Stat(dir, &st); err != nil {
			t.Fatal(err)
		}
		return dir, st.Ino
	}
	kerneltest.Skip(t, "cgroup v2 is not mounted")
	return "", 0
}

// Fields of tracepoints are what the record has: numbers, arrays, and texts of any
// length that it points to.
func TestCallsOfTracepoints(t *testing.T) {
	program := callsProgram(t)
	o, said := options(t)
	o.Packs = nil
	o.Probes = declarations(t, program,
		"tracepoint:sched:sched_process_exec(filename, pid, part=str(filename, 5))",
		"tracepoint:task:task_rename(oldcomm, newcomm, pid)",
		`tracepoint:syscalls:sys_enter_openat(file=str(filename), dfd=i32(dfd)) /str(filename) == "/dev/null"/`)
	res := recordWith(t, o, said, "/bin/sh", "-c", "exec "+program+" args 1 </dev/null")
	list, notes := calls(t, res.path)
	pid := list[0].task.Pid
	name := filepath.Base(program)[:min(15, len(filepath.Base(program)))]
	sameLines(t, "exec", only(list, "sched_process_exec"), []string{
		fmt.Sprintf("entered depth=1 filename=%s pid=%d part=%q+%d", program, pid, program[:5], len(program)-5),
	})
	renames := only(list, "task_rename")
	if want := fmt.Sprintf("entered depth=1 oldcomm=sh newcomm=%s pid=%d", name, pid); len(renames) == 0 || renames[len(renames)-1] != want {
		t.Errorf("renames %q, want %q", renames, want)
	}
	sameLines(t, "openat", only(list, "sys_enter_openat"), []string{"entered depth=1 file=/dev/null dfd=-100"})
	if notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

// awaitMapping waits until a process has mapped a file.
func awaitMapping(t *testing.T, pid int, path string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(maps), path) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is never mapped", path)
		}
	}
}
