package capture_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// A target is a program that runs before it is recorded, and waits for the
// test's word where it says so.
type target struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	all bytes.Buffer // what it said
}

func start(t *testing.T, argv ...string) *target {
	t.Helper()
	return startAs(t, nil, argv...)
}

// startAs starts it in namespaces or as a user of its own.
func startAs(t *testing.T, attr *syscall.SysProcAttr, argv ...string) *target {
	t.Helper()
	p := &target{t: t, cmd: exec.Command(argv[0], argv[1:]...)}
	p.cmd.SysProcAttr = attr
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // harmless when it has ended
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

// await reads lines until one is the given word.
func (p *target) await(word string) {
	p.t.Helper()
	for {
		line, err := p.out.ReadString('\n')
		p.all.WriteString(line)
		if strings.TrimSpace(line) == word {
			return
		}
		if err != nil {
			p.t.Fatalf("the program ended without %q, it said\n%s", word, p.all.String())
		}
	}
}

// tell sends it a byte.
func (p *target) tell(b byte) {
	p.t.Helper()
	if _, err := p.in.Write([]byte{b}); err != nil {
		p.t.Fatalf("tell the program %q: %v", b, err)
	}
}

// wait reads the rest of what it says and waits for its end.
func (p *target) wait() {
	p.t.Helper()
	if _, err := io.Copy(&p.all, p.out); err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Wait() // its status is the test's to judge
}

// A recording is a capture in the making.
type recording struct {
	t      *testing.T
	path   string
	notes  *bytes.Buffer
	cancel context.CancelFunc
	done   chan error
	sum    *capture.Summary
}

// attach begins a recording and returns once its probes are set.
func attach(t *testing.T, change func(*capture.Options)) *recording {
	t.Helper()
	kerneltest.Require(t)
	o, notes := options(t)
	r := &recording{t: t, path: o.Output, notes: notes, done: make(chan error, 1)}
	begun := make(chan struct{}, 1)
	o.Progress = func(capture.Summary) {
		select {
		case begun <- struct{}{}:
		default:
		}
	}
	change(&o)
	var ctx context.Context
	ctx, r.cancel = context.WithTimeout(t.Context(), patience)
	t.Cleanup(r.cancel)
	go func() {
		var err error
		r.sum, err = capture.Record(ctx, o)
		r.done <- err
	}()
	select {
	case <-begun:
	case err := <-r.done:
		t.Fatalf("record: %v, said %q", err, notes)
	}
	return r
}

// attachTo records processes by pid.
func attachTo(t *testing.T, targets ...*target) *recording {
	t.Helper()
	return attach(t, func(o *capture.Options) {
		for _, p := range targets {
			o.Pids = append(o.Pids, p.cmd.Process.Pid)
		}
	})
}

// stop ends the recording.
func (r *recording) stop(said string) *result {
	r.t.Helper()
	r.cancel()
	return r.ended(said)
}

// ended waits for the end that the recording finds by itself.
func (r *recording) ended(said string) *result {
	r.t.Helper()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Fatalf("record: %v", err)
		}
	case <-time.After(patience):
		r.t.Fatal("the recording did not end")
	}
	res := &result{t: r.t, path: r.path, sum: r.sum, notes: r.notes.String()}
	res.hear(said)
	return res
}
