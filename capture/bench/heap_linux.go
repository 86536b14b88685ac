package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/tcap-dev/tcap/capture/probe"
)

const pairs = 200_000 // calls of malloc and free in a round

// A side is one way to run the same program.
type side struct {
	name string
	run  func() (nsPerPair float64, err error)
	ns   []float64
}

// heap is the cost of a pair of malloc and free.
func (b *bench) heap() error {
	sides := []*side{
		{name: "untraced", run: b.untraced},
		{name: "floor: empty programs at the same places", run: b.floor},
		{name: "tcap --stacks none", run: func() (float64, error) { return b.traced("pairs", "--stacks", "none") }},
		{name: "tcap", run: func() (float64, error) { return b.traced("pairs") }},
		{name: "tcap --stacks fp", run: func() (float64, error) { return b.traced("pairs", "--stacks", "fp") }},
		{name: "tcap, 100 frames deep", run: func() (float64, error) { return b.traced("deep") }},
		{name: "tcap --stack-size 2KiB, 100 frames deep", run: func() (float64, error) { return b.traced("deep", "--stack-size", "2KiB") }},
	}
	if _, err := exec.LookPath("bpftrace"); err == nil {
		sides = append(sides, &side{name: "bpftrace, malloc.bt", run: b.bpftrace})
	}
	if _, err := exec.LookPath("heaptrack"); err == nil {
		sides = append(sides, &side{name: "heaptrack (preloaded)", run: b.heaptrack})
	}
	for range b.rounds {
		for _, s := range sides {
			ns, err := s.run()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.ns = append(s.ns, ns)
		}
	}
	floor, mine := median(sides[1].ns), median(sides[3].ns)
	for i, s := range sides {
		ns := median(s.ns)
		switch {
		case i < 2:
			b.row(s.name, "%.0f ns a pair", ns)
		case i < 7:
			b.row(s.name, "%.0f ns a pair, %.2f times the floor", ns, ns/floor)
		default:
			b.row(s.name, "%.0f ns a pair, %.2f times tcap", ns, ns/mine)
		}
	}
	return nil
}

func (b *bench) untraced() (float64, error) {
	out, err := exec.Command(b.program("pairs"), strconv.Itoa(20*pairs)).Output()
	if err != nil {
		return 0, err
	}
	return figure(out, "ns_per_pair")
}

// traced runs the program under tcap.
func (b *bench) traced(program string, flags ...string) (float64, error) {
	args := append([]string{"record", "--force", "-q", "-e", "heap", "-o", b.capture("pairs")}, flags...)
	args = append(args, "--", b.program(program), strconv.Itoa(pairs))
	out, err := exec.Command(b.tcap, args...).Output()
	if err != nil {
		return 0, err
	}
	return figure(out, "ns_per_pair")
}

// floor runs the program with programs that do nothing where tcap has its own:
// what the kernel charges for the traps. They are uprobe_multi links, which are
// the cheapest way to attach.
func (b *bench) floor() (float64, error) {
	p, err := b.start("pairs", strconv.Itoa(pairs))
	if err != nil {
		return 0, err
	}
	defer p.stop()
	objects, err := probe.FindAllocators(p.pid())
	if err != nil {
		return 0, err
	}
	empty, err := emptyUprobe()
	if err != nil {
		return 0, err
	}
	defer empty.Close()
	for _, o := range objects {
		l, err := attachEmpty(o, empty, p.pid())
		for _, l := range l {
			defer l.Close()
		}
		if err != nil {
			return 0, err
		}
	}
	return p.run()
}

func emptyUprobe() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
}

func attachEmpty(o probe.Object, empty *ebpf.Program, pid int) ([]link.Link, error) {
	ex, err := link.OpenExecutable(o.OpenPath)
	if err != nil {
		return nil, err
	}
	var entries, returns []uint64
	for _, f := range o.Functions {
		entries = append(entries, f.Entry.Offset)
		if f.HasReturn() {
			returns = append(returns, f.Return.Offset)
		}
	}
	in, err := ex.UprobeMulti(nil, empty, &link.UprobeMultiOptions{Addresses: entries, PID: uint32(pid)})
	if err != nil {
		return nil, err
	}
	out, err := ex.UretprobeMulti(nil, empty, &link.UprobeMultiOptions{Addresses: returns, PID: uint32(pid)})
	if err != nil {
		return []link.Link{in}, err
	}
	return []link.Link{in, out}, nil
}

// script is malloc.bt, one of those that tcap replaces: a line for every call.
const script = `
uprobe:%[1]s:malloc { @size[tid] = arg0; }
uretprobe:%[1]s:malloc /@size[tid]/ { printf("%%d malloc %%p %%d\n", pid, retval, @size[tid]); delete(@size[tid]); }
uprobe:%[1]s:free { printf("%%d free %%p\n", pid, arg0); }
`

// startWithLibc starts the program of pairs, waiting, and finds the library that has its malloc.
func (b *bench) startWithLibc(count string) (p *process, libc string, err error) {
	if p, err = b.start("pairs", count); err != nil {
		return nil, "", err
	}
	objects, err := probe.FindAllocators(p.pid())
	if err == nil && len(objects) == 0 {
		err = errors.New("it has no allocator")
	}
	if err != nil {
		p.stop()
		return nil, "", fmt.Errorf("find libc of %s: %w", p.cmd.Path, err)
	}
	return p, objects[0].Path, nil
}

func (b *bench) bpftrace() (float64, error) {
	p, libc, err := b.startWithLibc(strconv.Itoa(pairs / 4))
	if err != nil {
		return 0, err
	}
	defer p.stop()
	log, err := os.Create(filepath.Join(b.dir, "bpftrace.out"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	tracer := exec.Command("bpftrace", "-p", strconv.Itoa(p.pid()), "-e", fmt.Sprintf(script, libc))
	tracer.Stdout, tracer.Stderr = log, log
	if err := tracer.Start(); err != nil {
		return 0, err
	}
	defer func() { tracer.Process.Signal(os.Interrupt); tracer.Wait() }()
	if err := p.waitTraced(); err != nil {
		return 0, err
	}
	return p.run()
}

func (b *bench) heaptrack() (float64, error) {
	out, err := exec.Command("heaptrack", "-o", filepath.Join(b.dir, "heaptrack"), b.program("pairs"), strconv.Itoa(pairs)).Output()
	if err != nil {
		return 0, err
	}
	return figure(out, "ns_per_pair")
}
