package main

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/tcp"
)

// emptyHooks is the load with programs that do nothing at the hooks of the tcp
// pack: what the kernel charges for them.
func (b *bench) emptyHooks(l load) (rate float64, err error) {
	var links []io.Closer
	defer func() {
		for _, l := range links {
			err = errors.Join(err, l.Close())
		}
	}()
	for _, h := range tcp.Hooks {
		l, err := attachNothing(h)
		if err != nil {
			return 0, err
		}
		links = append(links, l)
	}
	return l.run()
}

func attachNothing(h tcp.Hook) (io.Closer, error) {
	spec := &ebpf.ProgramSpec{License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}}
	if h.Group == "" {
		spec.Type, spec.AttachType, spec.AttachTo = ebpf.Tracing, ebpf.AttachTraceRawTp, h.Name
	} else {
		spec.Type = ebpf.TracePoint
	}
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, err
	}
	defer p.Close() // the link holds it
	if h.Group == "" {
		return link.AttachTracing(link.TracingOptions{Program: p})
	}
	return link.Tracepoint(h.Group, h.Name, p, nil)
}

func enableStats() (io.Closer, error) { return ebpf.EnableStats(unix.BPF_STATS_RUN_TIME) }

// A programStat is what the kernel counted of a program.
type programStat struct {
	name  string
	spent time.Duration
	runs  uint64
}

// programStats are those of all programs in the kernel, the most expensive first.
func programStats() ([]programStat, error) {
	var list []programStat
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, errInfo := p.Info()
		st, errStats := p.Stats()
		if err := errors.Join(errInfo, errStats, p.Close()); err != nil {
			return nil, err
		}
		list = append(list, programStat{info.Name, st.Runtime, st.RunCount})
	}
	slices.SortStableFunc(list, func(a, b programStat) int { return int(b.spent - a.spent) })
	return list, nil
}
