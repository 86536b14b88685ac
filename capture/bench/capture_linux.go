package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// info is what `tcap info --format json` says, as far as it is used here.
type info struct {
	Events uint64 `json:"events"`
	File   struct {
		Bytes  int64 `json:"size_bytes"`
		Blocks int   `json:"blocks"`
	} `json:"file"`
	StackEnds    map[string]uint64 `json:"stack_ends"`
	Completeness struct {
		Lost map[string]uint64 `json:"lost_events"`
	} `json:"completeness"`
}

// perEvent is bytes of the file for an event.
func (i info) perEvent() float64 { return float64(i.File.Bytes) / float64(i.Events) }

// look reads a capture's facts and insists that nothing was lost.
func (b *bench) look(name string) (info, error) {
	var i info
	out, err := exec.Command(b.tcap, "info", "--format", "json", b.capture(name)).Output()
	if err != nil {
		return i, err
	}
	if err := json.Unmarshal(out, &i); err != nil {
		return i, err
	}
	if len(i.Completeness.Lost) > 0 {
		return i, fmt.Errorf("lost %v", i.Completeness.Lost)
	}
	return i, nil
}

// recorder is the CPU time of tcap itself, encoding and compression included.
// It attaches to a running program, so that the program's time is not its own.
func (b *bench) recorder() error {
	if b.profile != "" {
		return b.profileRecorder()
	}
	p, err := b.start(b.load, strconv.Itoa(b.pairs))
	if err != nil {
		return err
	}
	defer p.stop()
	rec := exec.Command(b.tcap, "record", "--force", "-q", "-e", "heap", "-o", b.capture("recorder"), "-p", strconv.Itoa(p.pid()))
	rec.Stderr = os.Stderr
	if err := rec.Start(); err != nil {
		return err
	}
	if err := p.waitTraced(); err != nil {
		rec.Process.Kill()
		return errors.Join(err, rec.Wait())
	}
	before, err := cpuTime(rec.Process.Pid) // loading and attaching
	if err != nil {
		return err
	}
	ns, err := p.run()
	if err != nil {
		return err
	}
	if err := rec.Wait(); err != nil {
		return err
	}
	i, err := b.look("recorder")
	if err != nil {
		return err
	}
	cpu := rec.ProcessState.UserTime() + rec.ProcessState.SystemTime() - before
	b.row("events recorded", "%d, none lost, at %.0f a second", i.Events, 2e9/ns)
	b.row("tcap's own CPU time", "%.0f ns an event", float64(cpu)/float64(i.Events))
	return nil
}

// cpuTime is the CPU time that a process has used, by /proc/PID/schedstat of
// its threads.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, f := range files {
		var ns int64
		if data, err := os.ReadFile(f); err == nil {
			fmt.Sscan(string(data), &ns)
			sum += ns
		}
	}
	return time.Duration(sum), nil
}

// size is the bytes of an event in captures of real programs.
func (b *bench) size() error {
	for _, w := range []struct {
		name string
		cmd  []string
	}{
		{"tight loop", []string{b.program("pairs"), "1000000"}},
		{"perl", []string{"perl", "-e", `my %h; for my $i (1..200000) { $h{"k$i"} = [$i, "x" x ($i % 50)]; delete $h{"k" . ($i - 1000)} if $i > 1000 }`}},
		{"git log", []string{"git", "log", "-p", "--stat", "-200"}},
		{"random sizes and lives", []string{b.program("mix"), "500000"}},
	} {
		args := append([]string{"record", "--force", "-q", "-e", "heap", "-o", b.capture("size"), "--"}, w.cmd...)
		cmd := exec.Command(b.tcap, args...)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		i, err := b.look("size")
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		b.row(w.name, "%.2f bytes an event (%d events)", i.perEvent(), i.Events)
	}
	return nil
}

// analysis records millions of events of a program with a large, random heap,
// and finds its leaks.
func (b *bench) analysis(millions int) error {
	n := millions * 1_000_000 / 2
	cmd := exec.Command(b.tcap, "record", "--force", "-q", "-e", "heap", "-o", b.capture("analysis"), "--", b.program("mix"), strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	i, err := b.look("analysis")
	if err != nil {
		return err
	}
	b.row("events", "%d in %.0f MiB", i.Events, float64(i.File.Bytes)/(1<<20))
	for _, analysis := range []string{"leaks", "heap"} {
		if err := b.analyze(analysis, i.Events); err != nil {
			return err
		}
	}
	return os.Remove(b.capture("analysis"))
}

// analyze measures an analysis of the capture: its speed and its memory.
func (b *bench) analyze(analysis string, events uint64) error {
	var seconds, cpu, rss []float64
	for range b.rounds {
		start := time.Now()
		cmd := exec.Command(b.tcap, "analyze", analysis, b.capture("analysis"))
		if err := cmd.Run(); err != nil {
			return err
		}
		seconds = append(seconds, time.Since(start).Seconds())
		used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		cpu = append(cpu, float64(used)/float64(events))
		rss = append(rss, float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)/1024)
	}
	b.row(analysis, "%.1f million events a second on %d CPUs, %.0f ns of CPU time an event, %.0f MiB of memory at most",
		float64(events)/1e6/median(seconds), runtime.NumCPU(), median(cpu), median(rss))
	return nil
}
