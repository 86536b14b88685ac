package capture

import (
	"slices"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/format"
)

// Stacks of declared probes are taken as the heap's are. They rest on what a process
// maps, and so do the names of callers and of functions that arguments point to.
// Targets are asked for it at the start. Where there are none, a process becomes one when
// it first hits a probe that tells of such places.

// wantStacks reports whether a declared probe wants the stack, to be unwound.
func (r *recorder) wantStacks() bool {
	return r.calls != nil && r.opts.Stacks == StacksDwarf && slices.ContainsFunc(r.opts.Probes, func(p Probe) bool { return p.Decl.Stack })
}

// tellsCode reports whether a declared probe tells of places in code.
func (r *recorder) tellsCode() bool {
	return r.calls != nil && slices.ContainsFunc(r.opts.Probes, func(p Probe) bool { return p.Decl.TellsCode() })
}

// needsCode reports whether it must be known what code comes and goes.
func (c *callProbes) needsCode() bool {
	return len(c.awaited) > 0 || c.r.tellsCode()
}

// followsHits reports whether processes become targets by hitting a probe.
func (r *recorder) followsHits() bool {
	return !r.opts.targeted() && r.tellsCode()
}

// joined takes a process as a target that the programs took for one. Threads that hit
// at the same time each say so.
func (r *recorder) joined(rec []byte) error {
	x, err := view[bpf.RawExec](rec)
	if err != nil {
		return err
	}
	pid := x.Hdr.Pid
	if p := r.procs.byPid[pid]; r.alive[pid] && p != nil && p.image == imageIn(x) {
		return nil
	}
	r.alive[pid] = true
	if r.wantStacks() {
		r.calls.hitters = true
	}
	p := r.procs.exec(pid, x.Hdr.Aux, cstring(x.Comm[:]))
	r.procs.execMaps(p, x)
	return r.tellMappings(p, int64(x.Hdr.Time))
}

// strangers are the processes that are not followed, by pid: of them it is known that
// they are not another program than at the call before, and nothing of their code.
type strangers struct {
	young, old map[uint32]stranger
	nowhere    space // has no mappings
}

type stranger struct{ image, space uint32 }

// maxStrangers is how many are remembered for sure.
const maxStrangers = 1 << 14

// space numbers the address space of a pid while it has this image.
func (s *strangers) space(pid, image uint32, ps *processes) uint32 {
	known, ok := s.young[pid]
	if !ok {
		known, ok = s.old[pid]
	}
	if !ok || known.image != image {
		ps.spaces++
		known = stranger{image, ps.spaces}
	}
	if s.young == nil || len(s.young) >= maxStrangers {
		s.young, s.old = map[uint32]stranger{}, s.young
	}
	s.young[pid] = known
	return known.space
}

// walkHitters makes the kernel know what code the processes have that became
// targets since the last time. Until then it takes all that is unmapped for code.
func (r *recorder) walkHitters() error {
	if r.calls == nil || !r.calls.hitters {
		return nil
	}
	r.calls.hitters = false
	return r.findCode()
}

// stackRow gives the capture's stack for what a call has of it.
func (c *callProbes) stackRow(d *declare.Probe, id uint64, space *space) format.StackID {
	if c.r.snaps != nil && d.Stack {
		return c.r.snaps.row(id)
	}
	return c.r.stacks.row(id, space)
}
