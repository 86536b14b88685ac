package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unwindingNote is the end of a remark of the recorder (costs in capture/snapshots_linux.go).
var unwindingNote = regexp.MustCompile(`unwound (\d+) stacks of (\d+) frames, (\d+) at new addresses, in (\S+)`)

// A stackRun is a recording of a program no two of whose stacks are the same.
type stackRun struct {
	events, complete float64
	finish           float64 // s from the program's exit to tcap's
	rss              float64 // MiB at most
	signatures       float64
	frames, cold     float64
	unwinding        time.Duration
	bytes            float64
}

// stacks is what it takes to unwind a hundred thousand stacks.
func (b *bench) stacks(count int) error {
	var runs []stackRun
	for range b.rounds {
		r, err := b.stackRun(count)
		if err != nil {
			return err
		}
		runs = append(runs, r)
	}
	of := func(f func(*stackRun) float64) float64 {
		var v []float64
		for i := range runs {
			v = append(v, f(&runs[i]))
		}
		return median(v)
	}
	unique := of(func(r *stackRun) float64 { return r.signatures })
	frames := of(func(r *stackRun) float64 { return r.frames })
	seconds := of(func(r *stackRun) float64 { return r.unwinding.Seconds() })
	b.row("unique stacks", "%.0f of %.0f frames", unique, frames)
	b.row("complete", "%.2f %% of the allocations", 100*of(func(r *stackRun) float64 { return r.complete / r.events }))
	b.row("unwinding, beside the recording", "%.0f stacks a second, %.2f million frames a second", unique/seconds, frames/seconds/1e6)
	b.row("addresses that were known already", "%.4f %% of the frames", 100*(1-of(func(r *stackRun) float64 { return r.cold / r.frames })))
	b.row("from the program's exit to tcap's", "%.2f s", of(func(r *stackRun) float64 { return r.finish }))
	b.row("memory of tcap, at most", "%.0f MiB", of(func(r *stackRun) float64 { return r.rss }))
	b.row("file", "%.0f bytes a stack", of(func(r *stackRun) float64 { return r.bytes / r.signatures }))
	return nil
}

// stackRun records once. The program makes copies of some KiB faster than they are taken out of a
// ring of the default size, as long as all its stacks are new.
func (b *bench) stackRun(count int) (r stackRun, err error) {
	cmd := exec.Command(b.tcap, "record", "--force", "-q", "-e", "heap", "--ring-size", "512MiB", "-o", b.capture("stacks"), "--", b.program("stacks"), strconv.Itoa(count))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return r, err
	}
	ended, err := figure(out, "ended_ns")
	if err != nil {
		return r, err
	}
	r.finish = (float64(now.Nano()) - ended) / 1e9
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return r, errors.New("the memory of tcap is not known")
	}
	r.rss = float64(usage.Maxrss) / 1024
	i, err := b.look("stacks")
	if err != nil {
		return r, err
	}
	r.bytes = float64(i.File.Bytes)
	for end, n := range i.StackEnds {
		r.events += float64(n)
		if end == "complete" {
			r.complete = float64(n)
		}
	}
	return r, b.stackNote(&r)
}

// stackNote reads what the recorder remarked of its work.
func (b *bench) stackNote(r *stackRun) error {
	out, err := exec.Command(b.tcap, "print", "--format", "json", "--kind", "meta.note", b.capture("stacks")).Output()
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for dec.More() {
		var e struct {
			Text string `json:"text"`
		}
		if err := dec.Decode(&e); err != nil {
			return fmt.Errorf("read remarks: %w", err)
		}
		m := unwindingNote.FindStringSubmatch(e.Text)
		if m == nil {
			continue
		}
		for i, to := range []*float64{&r.signatures, &r.frames, &r.cold} {
			if *to, err = strconv.ParseFloat(m[i+1], 64); err != nil {
				return fmt.Errorf("read remark %q: %w", e.Text, err)
			}
		}
		r.unwinding, err = time.ParseDuration(m[4])
		return err
	}
	return errors.New("the capture has no remark on how stacks were unwound")
}
