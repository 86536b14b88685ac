package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
)

// eachPair is how many connections a pair of processes holds: below the usual
// limit of open files.
const eachPair = 16000

// million opens so many thousand connections at once, both of whose ends are
// recorded, ends the recording while they are open, and asks for them all.
func (b *bench) million(thousands int) error {
	pairs := (thousands*1000 + eachPair - 1) / eachPair
	rec := exec.Command(b.tcap, "record", "--force", "-e", "tcp", "-o", b.capture("million"))
	stop, err := startRecorder(rec)
	if err != nil {
		return err
	}
	crowd, err := b.startCrowd(pairs)
	if err != nil {
		return errors.Join(err, stop())
	}
	defer crowd.end()
	conns := pairs * eachPair
	b.row("connections at once", "%d, %d sockets, opened in %.0f s", conns, 2*conns, crowd.seconds)
	rss, errRSS := peakMemory(rec.Process.Pid)
	table, errTable := tableMemory("connections")
	began := time.Now()
	if err := errors.Join(errRSS, errTable, stop()); err != nil {
		return err
	}
	b.row("recorder", "%.0f MiB of memory at most; the table of connections has %.0f MiB in the kernel", rss, table)
	b.row("the last look at what is open", "%.1f s", time.Since(began).Seconds())
	i, err := b.look("million")
	if err != nil {
		return err
	}
	b.row("file", "%d events, none lost, %.0f MiB, %.1f bytes an event", i.Events, float64(i.File.Bytes)/(1<<20), i.perEvent())
	return b.countOpen(2 * conns)
}

// countOpen has the connections analyzed, and wants as many to be open.
func (b *bench) countOpen(want int) error {
	began := time.Now()
	cmd := exec.Command(b.tcap, "analyze", "tcp", "--format", "csv", b.capture("million"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	open := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(",7000,")) && bytes.Contains(lines.Bytes(), []byte(",still_open,")) {
			open++
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return err
	}
	b.row("analyze tcp, every one as CSV", "%.1f s, %.0f MiB of memory at most", time.Since(began).Seconds(),
		float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)/1024)
	if open != want {
		return fmt.Errorf("%d sockets are reported as open, want %d", open, want)
	}
	return nil
}

// A crowd is the program that holds the connections, in a process group of its
// own.
type crowd struct {
	cmd     *exec.Cmd
	in      io.Closer
	seconds float64
}

func (b *bench) startCrowd(pairs int) (*crowd, error) {
	c := &crowd{cmd: exec.Command(b.program("million"), strconv.Itoa(pairs), strconv.Itoa(eachPair))}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.Stderr = os.Stderr
	in, errIn := c.cmd.StdinPipe()
	out, errOut := c.cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, c.cmd.Start()); err != nil {
		return nil, err
	}
	c.in = in
	var said []byte
	for r := bufio.NewReader(out); !bytes.Contains(said, []byte("seconds")); {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open connections: %w", err), c.end())
		}
		said = append(said, line...)
	}
	var err error
	c.seconds, err = figure(said, "seconds")
	return c, err
}

func (c *crowd) end() error {
	c.in.Close()
	return c.cmd.Wait()
}

// peakMemory is the most that a process had resident, in MiB.
func peakMemory(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("no VmHWM in /proc/PID/status")
}

// tableMemory is what the kernel charges for the map of that name, in MiB.
func tableMemory(name string) (float64, error) {
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("no map is called %s", name)
		}
		if err != nil {
			return 0, err
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		info, err := m.Info()
		m.Close()
		if err != nil {
			return 0, err
		}
		if n, ok := info.Memlock(); ok && info.Name == name {
			return float64(n) / (1 << 20), nil
		}
	}
}
