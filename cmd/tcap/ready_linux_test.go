package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// TestReady: who waits until tcap says that it records, and begins then, is recorded whole.
func TestReady(t *testing.T) {
	kerneltest.Require(t)
	t.Parallel()
	for _, quiet := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "run.tcap")
		shell := exec.Command("sh", "-c", "read go; for i in 1 2 3; do /bin/true; done")
		begin, err := shell.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := shell.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { begin.Close(); shell.Wait() })

		args := []string{"record", "-o", path, "-e", "heap", "-p", fmt.Sprint(shell.Process.Pid), "--ready-fd", "3"}
		if quiet {
			args = append(args, "-q")
		}
		ready, said, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer ready.Close()
		cmd := exec.Command(program, args...)
		cmd.ExtraFiles = []*os.File{said}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said.Close()
		text, err := io.ReadAll(ready) // ends when tcap closes it, which is long before it ends itself
		if err != nil || string(text) != "ready\n" {
			t.Errorf("descriptor 3 says %q (%v)", text, err)
		}
		if _, err := io.WriteString(begin, "\n"); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, &stderr)
		}
		execs := strings.Count(mustTcap(t, "print", path, "--kind", "proc.exec").stdout, "/bin/true")
		if execs != 3 {
			t.Errorf("%d of 3 programs are recorded", execs)
		}
		first, _, _ := strings.Cut(stderr.String(), "\n")
		want := fmt.Sprintf("tcap: recording heap of pid %d (sh); Ctrl-C ends it", shell.Process.Pid)
		if quiet {
			want = ""
		}
		if first != want {
			t.Errorf("quiet %v: it says %q, want %q", quiet, first, want)
		}
	}
}

// TestNotReady: what is not begun is not said to be, and a command never hears of the descriptor.
func TestNotReady(t *testing.T) {
	kerneltest.Require(t)
	out := filepath.Join(t.TempDir(), "run.tcap")
	for _, tt := range []struct {
		args []string
		code int
		line string
	}{
		{[]string{"-p", "2147483647", "--ready-fd", "3"}, exitFailed, ""},
		{[]string{"--ready-fd", "2", "--", "true"}, exitUsage, ""},
		{[]string{"--ready-fd", "900", "--", "true"}, exitUsage, ""},
		{[]string{"--ready-fd", "3", "--", "sh", "-c", "test ! -e /proc/self/fd/3"}, exitOK, "ready\n"},
	} {
		ready, said, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, append([]string{"record", "-o", out}, tt.args...)...)
		cmd.ExtraFiles = []*os.File{said}
		o := finish(t, cmd)
		said.Close()
		text, err := io.ReadAll(ready)
		ready.Close()
		if o.code != tt.code || err != nil || string(text) != tt.line {
			t.Errorf("%s: exit %d, descriptor 3 says %q (%v); stderr %q", tt.args, o.code, text, err, o.stderr)
		}
	}
}
