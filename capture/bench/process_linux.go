package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A process is a program that waits at its start until it is to run.
type process struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Reader
	probed   int64    // address of what is called, malloc in most
	untraced [24]byte // its code
	ended    bool
}

// start starts a program in its waiting form.
func (b *bench) start(name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(b.program(name), append(args, "wait")...)}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	_, at, _ := strings.Cut(strings.TrimSpace(line), " 0x")
	if p.probed, err = strconv.ParseInt(at, 16, 64); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: it says %q: %w", name, line, err)
	}
	if p.untraced, err = p.code(); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: read its code: %w", name, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// release lets it run.
func (p *process) release() error { return p.in.Close() }

// run lets it run to its end and returns the figure that it prints.
func (p *process) run() (float64, error) { return p.runFor("ns_per_pair") }

func (p *process) runFor(name string) (float64, error) {
	if err := p.release(); err != nil {
		return 0, err
	}
	out, err := io.ReadAll(p.out)
	if err != nil {
		return 0, err
	}
	p.ended = true
	if err := p.cmd.Wait(); err != nil {
		return 0, err
	}
	return figure(out, name)
}

func (p *process) stop() {
	if !p.ended {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
}

// waitTraced waits until there is a breakpoint in the first instructions of what is
// called, where tracers put theirs: their bytes are no longer those of the file.
func (p *process) waitTraced() error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		code, err := p.code()
		if err != nil {
			return err
		}
		if code != p.untraced {
			return nil
		}
	}
	return errors.New("no probe appeared within 30 s")
}

// code is the beginning of what is called.
func (p *process) code() (code [24]byte, err error) {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.pid()))
	if err != nil {
		return code, err
	}
	defer mem.Close()
	_, err = mem.ReadAt(code[:], p.probed)
	return code, err
}

// figure finds "NAME VALUE" in a program's output.
func figure(out []byte, name string) (float64, error) {
	for line := range bytes.Lines(out) {
		if v, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return strconv.ParseFloat(string(bytes.TrimSpace(v)), 64)
		}
	}
	return 0, fmt.Errorf("no %s in %q", name, out)
}
