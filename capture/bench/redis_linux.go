package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/capture/symbol"
)

const (
	redisPort     = "16379"
	redisCommands = 300_000
	// redisScript prints what the pack records: the command and how long it took.
	// The offsets are those of redis 7.0.15.
	redisScript = `
uprobe:%[1]s:call { @start[tid] = nsecs; @client[tid] = arg0; }
uretprobe:%[1]s:call /@start[tid]/ {
	$cmd = *(uint64 *)(@client[tid] + 112);
	printf("%%s %%d\n", str(*(uint64 *)($cmd + 400)), nsecs - @start[tid]);
	delete(@start[tid]); delete(@client[tid]);
}`
)

// redis is the price of a recorded command: redis is one thread, so it is the time
// that each takes from the server.
func (b *bench) redis() error {
	for _, tool := range []string{"redis-server", "redis-benchmark"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.row("skipped", "%s is not installed", tool)
			return nil
		}
	}
	server := exec.Command("redis-server", "--port", redisPort, "--save", "", "--bind", "127.0.0.1", "--dir", b.dir)
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { server.Process.Signal(syscall.SIGTERM); server.Wait() }()
	if err := answers("127.0.0.1:" + redisPort); err != nil {
		return err
	}
	exe, err := filepath.EvalSymlinks(fmt.Sprintf("/proc/%d/exe", server.Process.Pid))
	if err != nil {
		return err
	}
	pid := server.Process.Pid
	sides := []*redisSide{
		{name: "unrecorded", run: redisRate},
		{name: "floor: empty programs at the same places", run: func() (float64, error) { return redisFloor(exe, pid) }},
		{name: "tcap -e redis, each command there and none lost", run: func() (float64, error) { return b.redisRecorded(pid) }},
	}
	if _, err := exec.LookPath("bpftrace"); err == nil {
		sides = append(sides, &redisSide{name: "bpftrace, printing the same", run: func() (float64, error) { return redisScripted(exe, pid) }})
	}
	for range b.rounds {
		for _, s := range sides {
			rate, err := s.run()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.rates = append(s.rates, rate)
		}
	}
	plain := 1e9 / slices.Max(sides[0].rates)
	floor := 1e9/slices.Max(sides[1].rates) - plain
	for i, s := range sides {
		ns := 1e9 / slices.Max(s.rates) // other load only ever takes away
		if i == 0 {
			b.row(s.name, "%.0f commands a second, %.0f ns each (best of %d rounds)", slices.Max(s.rates), ns, b.rounds)
			continue
		}
		b.row(s.name, "%.0f commands a second, +%.0f ns each: %.2f times the floor", slices.Max(s.rates), ns-plain, (ns-plain)/floor)
	}
	return nil
}

// A redisSide is one way to have the commands executed.
type redisSide struct {
	name  string
	run   func() (float64, error)
	rates []float64
}

// answers waits until something listens.
func answers(addr string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// redisRate is how many commands a second the server executes.
func redisRate() (float64, error) {
	out, err := exec.Command("redis-benchmark", "-p", redisPort, "-n", strconv.Itoa(redisCommands), "-P", "32", "-t", "set", "--csv").Output()
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(out) {
		if f := strings.Split(strings.ReplaceAll(string(line), `"`, ""), ","); f[0] == "SET" && len(f) > 1 {
			return strconv.ParseFloat(strings.TrimSpace(f[1]), 64)
		}
	}
	return 0, fmt.Errorf("redis-benchmark printed no rate: %s", out)
}

func redisFloor(exe string, pid int) (rate float64, err error) {
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Kprobe, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return 0, err
	}
	defer empty.Close()
	ex, err := link.OpenExecutable(exe)
	if err != nil {
		return 0, err
	}
	for _, attach := range []func(string, *ebpf.Program, *link.UprobeOptions) (link.Link, error){ex.Uretprobe, ex.Uprobe} {
		l, err := attach("call", empty, &link.UprobeOptions{PID: pid})
		if err != nil {
			return 0, err
		}
		defer l.Close()
	}
	return redisRate()
}

// redisRecorded also holds the recording against what was executed: look refuses one that
// has lost anything.
func (b *bench) redisRecorded(pid int) (float64, error) {
	rec := exec.Command(b.tcap, "record", "--force", "-q", "-e", "redis", "-p", strconv.Itoa(pid), "-o", b.capture("redis"))
	stop, err := startRecorder(rec)
	if err != nil {
		return 0, err
	}
	rate, err := redisRate()
	if err := errors.Join(err, stop()); err != nil {
		return 0, err
	}
	in, err := b.look("redis")
	if err != nil {
		return 0, err
	}
	if in.Events < redisCommands {
		return 0, fmt.Errorf("%d events of %d commands", in.Events, redisCommands)
	}
	return rate, nil
}

func redisScripted(exe string, pid int) (float64, error) {
	script := exec.Command("bpftrace", "-e", fmt.Sprintf(redisScript, exe))
	out, err := script.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := script.Start(); err != nil {
		return 0, err
	}
	defer func() { script.Process.Signal(syscall.SIGINT); script.Wait() }()
	go io.Copy(io.Discard, out)
	if err := breakpoint(exe, pid); err != nil {
		return 0, err
	}
	return redisRate()
}

// breakpoint waits until call begins with one.
func breakpoint(exe string, pid int) error {
	e, err := probe.OpenELF(exe)
	if err != nil {
		return err
	}
	defer e.Close()
	call, err := e.Lookup("call")
	if err != nil {
		return err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	maps, err := symbol.ParseMaps(f)
	if err != nil {
		return err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer mem.Close()
	var first [1]byte
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, m := range maps {
			if m.Path != exe || !m.Exec || call.Offset < m.Offset || call.Offset-m.Offset >= m.End-m.Start {
				continue
			}
			if _, err := mem.ReadAt(first[:], int64(m.Start+call.Offset-m.Offset)); err != nil {
				return err
			}
			if first[0] == 0xcc { // int3
				return nil
			}
		}
	}
	return errors.New("no probe appeared in call within 30 s")
}
