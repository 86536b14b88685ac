package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// The tests of packs run against the real servers, which they start on loopback.
// They are not below capture/, so the second kernel (make test-vm) does without
// them.

// A server is a program that a test runs and ends.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  bytes.Buffer
	port int
}

// start runs a server and waits until it accepts connections on its port.
func start(t *testing.T, port int, name string, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		kerneltest.Skip(t, name+" is not installed: scripts/deps.sh test")
	}
	s := &server{t: t, cmd: exec.Command(name, args...), port: port}
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	if !eventually(func() bool {
		c, err := net.Dial("tcp", s.addr())
		if err == nil {
			c.Close()
		}
		return err == nil
	}) {
		t.Fatalf("%s does not accept connections:\n%s", name, s.log.String())
	}
	return s
}

func (s *server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }
func (s *server) pid() int     { return s.cmd.Process.Pid }

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// freePort is one on which nobody listens now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A recorder is a running tcap record.
type recorder struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
	log  bytes.Buffer
}

// recordNow starts a recording, and returns when it has begun.
func recordNow(t *testing.T, args ...string) *recorder {
	t.Helper()
	r := &recorder{t: t, file: filepath.Join(t.TempDir(), "app.tcap")}
	r.cmd = exec.Command(program, append([]string{"record", "-o", r.file, "-d", "5m"}, args...)...)
	r.cmd.Stderr = &r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			r.cmd.Process.Kill()
			r.cmd.Wait()
		}
	})
	if !eventually(func() bool { return fileSize(r.file) > 0 }) {
		r.cmd.Process.Kill()
		r.cmd.Wait()
		t.Fatalf("the recording does not begin:\n%s", r.log.String())
	}
	return r
}

// stop ends the recording, of which nothing may have been lost.
func (r *recorder) stop() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Fatalf("record: %v\n%s", err, r.log.String())
	}
	if !strings.Contains(r.log.String(), "none lost") {
		r.t.Errorf("record: %s", r.log.String())
	}
}

// analyze decodes an analysis of the recording.
func (r *recorder) analyze(into any, args ...string) {
	r.t.Helper()
	o := tcap(r.t, append([]string{"analyze", args[0], r.file, "--format", "json"}, args[1:]...)...)
	if o.code != 0 {
		r.t.Fatalf("analyze %q: exit %d\n%s", args, o.code, o.stderr)
	}
	if err := json.Unmarshal([]byte(o.stdout), into); err != nil {
		r.t.Fatal(err)
	}
}

// runClient runs a client program with input, and returns what it prints.
func runClient(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// publicDir is a directory that servers which give up root can use.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tcap-app")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// within reports whether two durations differ by at most a share, or by slack.
func within(a, b time.Duration, share float64, slack time.Duration) bool {
	d := (a - b).Abs()
	return d <= slack || float64(d) <= share*float64(max(a, b))
}
