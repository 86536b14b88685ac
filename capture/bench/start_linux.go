package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// A starter is a tracer that begins to trace a waiting process.
type starter struct {
	name string
	cmd  func(p *process, path string) *exec.Cmd // path is of the process's allocator
	ms   []float64
}

// starts is how long tracers take until their probes are in a process that runs
// already: loading and verifying their programs, for most of it.
func (b *bench) starts() error {
	record := func(more ...string) func(*process, string) *exec.Cmd {
		return func(p *process, _ string) *exec.Cmd {
			return exec.Command(b.tcap, append([]string{"record", "--force", "-q", "-p", strconv.Itoa(p.pid()), "-o", b.capture("start")}, more...)...)
		}
	}
	starters := []*starter{
		{name: "tcap, heap and TCP", cmd: record()},
		{name: "tcap, heap", cmd: record("-e", "heap")},
		{name: "tcap, one function", cmd: func(p *process, path string) *exec.Cmd {
			return record("-e", "uretprobe:"+path+":malloc(size=arg0, block=retval)")(p, path)
		}},
	}
	if _, err := exec.LookPath("bpftrace"); err == nil {
		starters = append(starters, &starter{name: "bpftrace, malloc.bt", cmd: func(p *process, path string) *exec.Cmd {
			return exec.Command("bpftrace", "-p", strconv.Itoa(p.pid()), "-e", fmt.Sprintf(script, path))
		}})
	}
	for range b.rounds {
		for _, s := range starters {
			ms, err := b.startOf(s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.ms = append(s.ms, ms)
		}
	}
	mine := median(starters[0].ms)
	for _, s := range starters {
		b.row(s.name, "%.0f ms until malloc is probed, %.2f times the first", median(s.ms), median(s.ms)/mine)
	}
	return nil
}

// startOf is how long a tracer takes, ms.
func (b *bench) startOf(s *starter) (ms float64, err error) {
	p, libc, err := b.startWithLibc("1000")
	if err != nil {
		return 0, err
	}
	defer p.stop()
	cmd := s.cmd(p, libc)
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err = p.waitTraced()
	ms = float64(time.Since(begun)) / 1e6
	cmd.Process.Signal(os.Interrupt)
	var status *exec.ExitError
	if e := cmd.Wait(); e != nil && !errors.As(e, &status) { // one that is interrupted so early may say so
		err = errors.Join(err, e)
	}
	return ms, err
}
