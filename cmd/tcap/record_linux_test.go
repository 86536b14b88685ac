package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

const nobody = 65534

// asNobody is tcap without any rights.
func asNobody(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Open(program) // a path that leads through root's directories
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exe.Close() })
	cmd := exec.Command("/proc/self/fd/3", args...)
	cmd.ExtraFiles = []*os.File{exe}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// Without rights every way to record says what to do, and leaves no file.
func TestNoRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		kerneltest.Skip(t, "only root can become somebody else")
	}
	dir, err := os.MkdirTemp("", "tcap-nobody") // t.TempDir is root's alone
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "x.tcap")
	for _, args := range [][]string{
		{"record", "-o", out, "-d", "1s"},
		{"record", "-o", out, "--", "true"},
		{"record", "-o", out, "-p", fmt.Sprint(os.Getpid())},
	} {
		o := finish(t, asNobody(t, args...))
		if o.code != exitFailed || !strings.Contains(o.stderr, "root") || !strings.Contains(o.stderr, "doctor") {
			t.Errorf("tcap %q: exit %d, stderr %q", args, o.code, o.stderr)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("tcap %q leaves a file", args)
		}
	}
	o := finish(t, asNobody(t, "doctor"))
	if o.code != exitFailed || !strings.Contains(o.stdout, "CANNOT RECORD") || o.stderr != "" {
		t.Errorf("doctor: exit %d, stderr %q:\n%s", o.code, o.stderr, o.stdout)
	}
	eightyColumns(t, "doctor", o.stdout)
}

func eightyColumns(t *testing.T, what, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%s: %d columns: %q", what, n, line)
		}
	}
}

func TestDoctor(t *testing.T) {
	kerneltest.Require(t)
	o := tcap(t, "doctor")
	if o.code != exitOK || !strings.Contains(o.stdout, "\ntcap can record heap and TCP here.\n") {
		t.Errorf("exit %d, %s\n%s", o.code, o.stderr, o.stdout)
	}
	eightyColumns(t, "doctor", o.stdout)
	if o := tcap(t, "doctor", "--format", "json"); o.code != exitOK || !strings.HasPrefix(o.stdout, "{\n  \"can_record\": true,\n") {
		t.Errorf("--format json: exit %d, %.100s", o.code, o.stdout)
	}
}

// A recording ends in a file that every reading verb takes.
func TestRecordAndRead(t *testing.T) {
	kerneltest.Require(t)
	path := filepath.Join(t.TempDir(), "run.tcap")
	o := tcap(t, "record", "-o", path, "--", kerneltest.Build(t, "testdata/leak.c"))
	if o.code != 7 || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "none lost") {
		t.Errorf("record: exit %d, stdout %q, stderr %q", o.code, o.stdout, o.stderr)
	}
	for _, verb := range reading {
		o := tcap(t, append(verb, path)...)
		if o.code != exitOK || o.stdout == "" || o.stderr != "" {
			t.Errorf("tcap %q: exit %d, %d bytes of stdout, stderr %q", verb, o.code, len(o.stdout), o.stderr)
		}
	}
	o = tcap(t, "info", path)
	eightyColumns(t, "info", o.stdout)
	for _, want := range []string{"heap.alloc", "proc.exit", "status was 7", "Complete"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("info does not say %q:\n%s", want, o.stdout)
		}
	}
	if o := tcap(t, "record", "-q", "--force", "-o", path, "--", "true"); o.code != exitOK || o.stderr != "" {
		t.Errorf("record -q --force: exit %d, stderr %q", o.code, o.stderr)
	}
}

// What stands in the way of a recording is named, and nothing is left behind.
func TestRecordRefuses(t *testing.T) {
	kerneltest.Require(t)
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	for _, tt := range []struct {
		args string
		says string
	}{
		{"-o " + there + " -- true", "--force"},
		{"-o " + dir + "/no/where -- true", "no such file or directory"},
		{"-o " + dir + " --force -- true", "directory"},
		{"-o /proc/version --force -- true", "/proc/version"},
		{"-o " + out + " -p 2147483647", "no such process"},
		{"-o " + out + " -- /no/such/program", "/no/such/program"},
		{"-o " + out + " -- /etc/passwd", "/etc/passwd"},
		{"-o " + out + " -e frob -d 1s", "no such pack"},
		{"-o " + out + " -e heap -d 1s", "-p PID"},
		{"-o " + out + " --stacks frob -d 1s", "stacks"},
		{"-o " + out + " --comm a-name-of-more-than-15-bytes -d 1s", "15 bytes"},
		{"-o " + out + " -p " + fmt.Sprint(zombie(t)), "ended"},
		{"-o " + out + " -p 2", "kernel thread"},
	} {
		o := tcap(t, append([]string{"record"}, strings.Fields(tt.args)...)...)
		if o.code == exitOK || !strings.Contains(o.stderr, tt.says) {
			t.Errorf("record %s: exit %d, stderr %q, want %q", tt.args, o.code, o.stderr, tt.says)
		}
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "precious" {
		t.Errorf("the file that was there: %q, %v", b, err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a recording that did not begin leaves a file")
	}
}

// zombie starts a process that has ended and is not waited for until the test ends.
func zombie(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// A target that ends right away ends the recording, with a valid file, or is
// said not to be there.
func TestTargetEndsAtOnce(t *testing.T) {
	kerneltest.Require(t)
	ends := exec.Command("sleep", "0.05")
	if err := ends.Start(); err != nil {
		t.Fatal(err)
	}
	go ends.Wait() // so that it is gone rather than a zombie
	path := filepath.Join(t.TempDir(), "run.tcap")
	o := tcap(t, "record", "-o", path, "-p", fmt.Sprint(ends.Process.Pid), "-d", "30s")
	switch {
	case o.code == exitOK && strings.Contains(o.stderr, "last target exited"):
		if o := tcap(t, "verify", path); o.code != exitOK {
			t.Errorf("verify: %s%s", o.stdout, o.stderr)
		}
	case o.code == exitFailed && strings.Contains(o.stderr, fmt.Sprintf("%d", ends.Process.Pid)):
	default:
		t.Errorf("exit %d, stderr %q", o.code, o.stderr)
	}
}

// The first Ctrl-C lets the command end by itself; the second ends the
// recording all the same, and the file is complete.
func TestInterruptTwice(t *testing.T) {
	kerneltest.Require(t)
	path := filepath.Join(t.TempDir(), "run.tcap")
	// The command says when it runs, and what it got.
	cmd := exec.Command(program, "record", "-o", path, "--", "sh", "-c", `trap "echo got" INT TERM; echo ready; while :; do sleep 0.1; done`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A file, since the command goes on and would keep a pipe open.
	errors, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer errors.Close()
	cmd.Stderr = errors
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	group := -cmd.Process.Pid
	defer syscall.Kill(group, syscall.SIGKILL)
	expect(t, stdout, "ready\n")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	expect(t, stdout, "got\n")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the second Ctrl-C does not end the recording")
	}
	stderr, err := os.ReadFile(errors.Name())
	if err != nil {
		t.Fatal(err)
	}
	checkStderr(t, cmd.Args[1:], string(stderr))
	for _, want := range []string{"interrupted", "the command goes on"} {
		if !strings.Contains(string(stderr), want) {
			t.Errorf("stderr %q, want %q", stderr, want)
		}
	}
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, clean := r.Trailer(); !clean {
		t.Error("the file has no clean end")
	}
}

// expect reads one line and compares it.
func expect(t *testing.T, r interface{ Read([]byte) (int, error) }, want string) {
	t.Helper()
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		b := make([]byte, len(want)-len(got))
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			break
		}
	}
	if string(got) != want {
		t.Fatalf("the command says %q, want %q", got, want)
	}
}

// On a terminal of any width nothing panics.
func TestTerminalWidths(t *testing.T) {
	path := writeCapture(t, 100, 0)
	for _, columns := range []uint16{0, 1, 40, 500} {
		for _, verb := range append(reading, []string{"doctor"}) {
			args := verb
			if verb[0] != "doctor" {
				args = append(verb[:len(verb):len(verb)], path)
			}
			out := onTerminal(t, columns, args...)
			if len(out) == 0 {
				t.Errorf("%d columns, tcap %q: no output", columns, verb)
			}
			if strings.Contains(out, "panic:") {
				t.Fatalf("%d columns, tcap %q:\n%s", columns, verb, out)
			}
		}
	}
}

// onTerminal runs tcap on a pseudo terminal and returns what it wrote there.
func onTerminal(t *testing.T, columns uint16, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		kerneltest.Skip(t, "no pseudo terminal: "+err.Error())
	}
	defer master.Close()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		kerneltest.Skip(t, "no pseudo terminal: "+err.Error())
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var out bytes.Buffer
	_, _ = out.ReadFrom(master) // ends with EIO when nobody has the terminal any more
	_ = cmd.Wait()
	return out.String()
}
