package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/tcp"
)

// emptyHooks is the load with programs that do nothing at the hooks of the tcp
// pack: what the kernel charges for them.
func (b *bench) emptyHooks(l load) (r rates, err error) {
	var links []io.Closer
	defer func() {
		for _, l := range links {
			err = errors.Join(err, l.Close())
		}
	}()
	for _, h := range tcp.Hooks {
		l, err := attachNothing(h)
		if err != nil {
			return rates{}, err
		}
		links = append(links, l)
	}
	return l.twice()
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

// programStats are those of the programs that a process has open, the most expensive
// first. Somebody else may be recording, too.
func programStats(pid int) ([]programStat, error) {
	ids, err := programsOf(pid)
	if err != nil {
		return nil, err
	}
	var list []programStat
	for id := range ids {
		p, err := ebpf.NewProgramFromID(id)
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

// programsOf are the programs behind a process's file descriptors, its links' among
// them.
func programsOf(pid int) (map[ebpf.ProgramID]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	ids := map[ebpf.ProgramID]bool{}
	for _, fd := range fds {
		text, err := os.ReadFile(filepath.Join(dir, fd.Name()))
		if errors.Is(err, fs.ErrNotExist) { // closed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(text) {
			if v, ok := bytes.CutPrefix(line, []byte("prog_id:")); ok {
				id, err := strconv.ParseUint(string(bytes.TrimSpace(v)), 10, 32)
				if err != nil {
					return nil, err
				}
				ids[ebpf.ProgramID(id)] = true
			}
		}
	}
	return ids, nil
}
