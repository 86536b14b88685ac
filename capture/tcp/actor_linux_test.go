package tcp

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// An actor is a process that does with TCP what the test tells it.
type actor struct {
	t     testing.TB
	name  string
	pid   int
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	ended bool
}

// A stage says where an actor lives: in the network namespace of another, in a
// new one, or in the test's.
type stage struct {
	with  *actor
	fresh bool
	extra []*os.File // descriptors from 3 on
}

// cast starts an actor whose comm is name.
func cast(t testing.TB, name string, s stage) *actor {
	t.Helper()
	kerneltest.Require(t)
	argv := []string{kerneltest.Build(t, "../../testdata/programs/tcp/actor.c"), name}
	if s.fresh {
		argv = append(argv, "netns")
	}
	if s.with != nil {
		argv = append([]string{"nsenter", "-t", fmt.Sprint(s.with.pid), "-n"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.ExtraFiles = s.extra
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &actor{t: t, name: name, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(a.end)
	a.pid = a.answer("start")
	if s.fresh {
		a.ip("link set lo up")
	}
	return a
}

// end lets the actor exit as programs do: the kernel closes what it left open.
func (a *actor) end() {
	if !a.ended {
		a.ended = true
		a.in.Close()
		a.cmd.Wait()
	}
}

// kill ends it by a signal.
func (a *actor) kill() {
	a.t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		a.t.Fatal(err)
	}
	a.end()
}

// begin gives a command without waiting for the answer.
func (a *actor) begin(format string, args ...any) {
	a.t.Helper()
	if _, err := fmt.Fprintf(a.in, format+"\n", args...); err != nil {
		a.t.Fatalf("%s: %v", a.name, err)
	}
}

// result reads an answer: the number, or the errno.
func (a *actor) result() (n, errno int) {
	a.t.Helper()
	line, err := a.out.ReadString('\n')
	if err != nil {
		a.t.Fatalf("%s: %v", a.name, err)
	}
	if _, err := fmt.Sscanf(line, "ok %d", &n); err == nil {
		return n, 0
	}
	if _, err := fmt.Sscanf(line, "err %d", &errno); err != nil {
		a.t.Fatalf("%s answered %q", a.name, line)
	}
	return -1, errno
}

func (a *actor) answer(what string) int {
	a.t.Helper()
	n, errno := a.result()
	if errno != 0 {
		a.t.Fatalf("%s: %s: %v", a.name, what, syscall.Errno(errno))
	}
	return n
}

// do has a command done, which must succeed, and returns its number.
func (a *actor) do(format string, args ...any) int {
	a.t.Helper()
	a.begin(format, args...)
	return a.answer(fmt.Sprintf(format, args...))
}

// fails has a command done, which must end with the errno.
func (a *actor) fails(want syscall.Errno, format string, args ...any) {
	a.t.Helper()
	a.begin(format, args...)
	if n, errno := a.result(); errno != int(want) {
		a.t.Fatalf("%s: %s: %d, errno %d, want %d", a.name, fmt.Sprintf(format, args...), n, errno, want)
	}
}

// run runs a program in the actor's network namespace.
func (a *actor) run(format string, args ...any) {
	a.t.Helper()
	line := fmt.Sprintf(format, args...)
	argv := append([]string{"-t", fmt.Sprint(a.pid), "-n"}, strings.Fields(line)...)
	if out, err := exec.Command("nsenter", argv...).CombinedOutput(); err != nil {
		a.t.Fatalf("%s in the network namespace of %s: %v\n%s", line, a.name, err, out)
	}
}

func (a *actor) ip(format string, args ...any) {
	a.t.Helper()
	a.run("ip "+format, args...)
}

// sysctl sets net.NAME in the actor's network namespace.
func (a *actor) sysctl(name, value string) {
	a.t.Helper()
	a.run("sysctl -q -w net.%s=%s", name, value)
}

// netns is the inode number that names the actor's network namespace.
func (a *actor) netns() uint64 {
	a.t.Helper()
	fi, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", a.pid))
	if err != nil {
		a.t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino
}
