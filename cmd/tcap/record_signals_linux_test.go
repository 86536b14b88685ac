package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// The command's exit status is tcap's, as a shell would give it.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("no interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		command string
		want    int
		file    bool
	}{
		{"true", 0, true},
		{"false", 1, true},
		{"sh -c exit\t255", 255, true},
		{"sh -c kill\t-TERM\t$$", 128 + int(unix.SIGTERM), true},
		{"sh -c kill\t-KILL\t$$", 128 + int(unix.SIGKILL), true},
		{"no-such-program-anywhere", 127, false},
		{"/no/such/program", 127, false},
		{"/etc/passwd", 126, false},
		{"/", 126, false},
		{script, 126, false},
	} {
		path := filepath.Join(t.TempDir(), "run.tcap")
		args := []string{"record", "-o", path, "--"}
		for _, f := range strings.Fields(strings.ReplaceAll(tt.command, "\t", "\x00")) {
			args = append(args, strings.ReplaceAll(f, "\x00", " "))
		}
		o := tcap(t, args...)
		if o.code != tt.want {
			t.Errorf("%q: exit %d, want %d; %s", tt.command, o.code, tt.want, o.stderr)
		}
		if _, err := os.Stat(path); (err == nil) != tt.file {
			t.Errorf("%q: %v", tt.command, err)
		}
	}
}

// What the command is started with is what it would have had without tcap:
// streams, signals, limits, descriptors, priority. (Of the signals that tcap was
// started to ignore, Go keeps only SIGHUP and SIGINT ignored.)
func TestCommandsOwnWorld(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	world := []string{"sh", "-c", `cat; echo to stderr >&2; trap '' USR1
		for f in /proc/self/limits; do cat $f; done; grep -E 'Sig(Ign|Blk|Cgt)|CapEff|NoNewPrivs' /proc/self/status
		ls /proc/self/fd; nice; umask; ulimit -a; exit 3`}
	for _, ignored := range []string{"", "HUP", "HUP INT"} {
		run := func(prefix ...string) (string, string, int) {
			argv := append([]string{"-c", fmt.Sprintf(`trap '' %s; exec "$@"`, cmp.Or(ignored, "0")), "sh"}, append(prefix, world...)...)
			cmd := exec.Command("sh", argv...)
			cmd.Stdin = strings.NewReader("through\n")
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
		}
		wantOut, wantErr, wantCode := run()
		path := filepath.Join(t.TempDir(), "run.tcap")
		out, errs, code := run(program, "record", "-o", path, "--")
		if out != wantOut || code != wantCode {
			t.Errorf("ignoring %q: exit %d, without tcap %d; %s", ignored, code, wantCode, firstDifference(out, wantOut))
		}
		if !strings.HasPrefix(errs, wantErr+"tcap: "+path) {
			t.Errorf("stderr %q", errs)
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("%q, without tcap %q", g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, without tcap %d", len(g), len(w))
}

// A signal that comes to tcap alone is handed on, once and as it is.
func TestSignalsHandedOn(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT} {
		path := filepath.Join(t.TempDir(), "run.tcap")
		// The command ends at the second signal, so that a first that comes twice shows.
		cmd := exec.Command(program, "record", "-o", path, "--", "sh", "-c",
			fmt.Sprintf(`trap 'echo got; exit $((40 + %d))' %d; echo ready; while :; do sleep 0.05; done`, s, s))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		expect(t, stdout, "ready\n")
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		expect(t, stdout, "got\n")
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 40+int(s) || !strings.Contains(stderr.String(), "command exited") {
			t.Errorf("%v: exit %d, stderr %q", s, code, stderr.String())
		}
		intact(t, path)
	}
}

// intact fails the test unless verify finds nothing.
func intact(t *testing.T, path string) {
	t.Helper()
	if o := tcap(t, "verify", path); o.code != exitOK {
		t.Errorf("verify %s: exit %d, %s%s", path, o.code, o.stdout, o.stderr)
	}
}

// A terminal is a pseudo terminal and what was written to it.
type terminal struct {
	t      *testing.T
	master *os.File
	mu     sync.Mutex
	text   []byte
	seen   int // what await has consumed
}

// onNewTerminal starts a command as the leader of a session on a terminal.
func onNewTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		kerneltest.Skip(t, "there are no pseudo terminals: "+err.Error())
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	keepOutput(t, slave)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty := &terminal{t: t, master: master}
	go func() {
		for buf := make([]byte, 4096); ; {
			n, err := master.Read(buf)
			tty.mu.Lock()
			tty.text = append(tty.text, buf[:n]...)
			tty.mu.Unlock()
			if err != nil {
				return // nobody has the other side open
			}
		}
	}()
	return tty
}

// keepOutput has a terminal keep what was written to it and not read yet when a key
// sends a signal, which it discards otherwise (termios(3), NOFLSH).
func keepOutput(t *testing.T, slave *os.File) {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	settings.Lflag |= unix.NOFLSH
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, settings); err != nil {
		t.Fatal(err)
	}
}

// await waits until a text appears after those awaited before.
func (tty *terminal) await(text string) {
	tty.t.Helper()
	if !eventually(func() bool {
		tty.mu.Lock()
		defer tty.mu.Unlock()
		i := bytes.Index(tty.text[tty.seen:], []byte(text))
		if i >= 0 {
			tty.seen += i + len(text)
		}
		return i >= 0
	}) {
		tty.t.Fatalf("the terminal does not show %q but %q", text, tty.all())
	}
}

func (tty *terminal) all() string {
	tty.mu.Lock()
	defer tty.mu.Unlock()
	return string(tty.text)
}

func (tty *terminal) write(text string) {
	tty.t.Helper()
	if _, err := tty.master.WriteString(text); err != nil {
		tty.t.Fatal(err)
	}
}

const ctrlC, ctrlZ, ctrlBackslash = "\x03", "\x1a", "\x1c"

// Ctrl-C goes to the command, once; tcap waits for it and returns its status.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	for key, name := range map[string]string{ctrlC: "INT", ctrlBackslash: "QUIT"} {
		path := filepath.Join(t.TempDir(), "run.tcap")
		cmd := exec.Command(program, "record", "-o", path, "--", "sh", "-c",
			fmt.Sprintf(`trap 'n=$((n+1)); echo "got $n"' %s; echo ready; while [ -z "$n" ]; do sleep 0.05; done; echo bye; exit 5`, name))
		tty := onNewTerminal(t, cmd)
		tty.await("ready")
		tty.write(key)
		tty.await("got 1")
		tty.await("bye")
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 5 || strings.Contains(tty.all(), "got 2") {
			t.Errorf("%s: exit %d: %s", name, code, tty.all())
		}
		intact(t, path)
	}
}

// A command that ignores Ctrl-C is left alone by the second one, with which
// the recording ends.
func TestCtrlCTwice(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	path := filepath.Join(t.TempDir(), "run.tcap")
	cmd := exec.Command(program, "record", "-o", path, "--", "sh", "-c", `trap '' INT; echo "ready $$"; while :; do sleep 0.05; done`)
	tty := onNewTerminal(t, cmd)
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	tty.await("ready")
	// Signals that follow each other too closely become one, so a finger that
	// insists.
	if !eventually(func() bool {
		tty.write(ctrlC)
		return strings.Contains(tty.all(), "interrupted")
	}) {
		t.Fatal("the recording goes on")
	}
	tty.await("the command goes on as pid")
	_ = cmd.Wait()
	intact(t, path)
}

// Ctrl-Z stops command and recorder, fg continues both, and the capture is as
// if nothing had been.
func TestJobControl(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	path := filepath.Join(t.TempDir(), "run.tcap")
	shell := exec.Command("bash", "--norc", "--noprofile", "-i")
	shell.Env = append(os.Environ(), "PS1=$ ", "HISTFILE=")
	tty := onNewTerminal(t, shell)
	defer syscall.Kill(-shell.Process.Pid, syscall.SIGKILL)
	tty.write("set +m; set -m; " + program + " record -o " + path + ` -- sh -c 'while :; do echo ti""ck; sleep 0.05; done'` + "\n")
	tty.await("tick\r")
	tty.write(ctrlZ)
	tty.await("Stopped")
	tty.write("fg\n")
	tty.await("tick\r")
	tty.write(ctrlC)
	tty.await("command exited")
	tty.write("echo status=$?; exit\n")
	tty.await("status=130")
	_ = shell.Wait()
	intact(t, path)
}

// A command that leaves a daemon behind ends the recording when it exits; the
// daemon goes on.
func TestDaemon(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	path := filepath.Join(t.TempDir(), "run.tcap")
	out, err := exec.Command(program, "record", "-o", path, "--", "sh", "-c", `setsid sleep 60 >/dev/null 2>&1 & echo $!`).Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGKILL)
	if err := unix.Kill(pid, 0); err != nil {
		t.Errorf("the daemon: %v", err)
	}
	if !eventually(func() bool { err = textIntact(pid); return err == nil }) {
		t.Error(err)
	}
	intact(t, path)
}
