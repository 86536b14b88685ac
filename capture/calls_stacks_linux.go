package capture

import (
	"slices"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/format"
)

// Stacks of declared probes are taken as the heap's are. They rest on what a process
// maps, which targets are asked for at the start. Where there are none,
// a process becomes one when it first hits a probe that wants the stack.

// wantStacks reports whether a declared probe wants the stack.
func (r *recorder) wantStacks() bool {
	return r.calls != nil && slices.ContainsFunc(r.opts.Probes, func(p Probe) bool { return p.Decl.Stack })
}

// needsCode reports whether it must be known what code comes and goes.
func (c *callProbes) needsCode() bool {
	return len(c.awaited) > 0 || c.r.wantStacks() && c.r.opts.Stacks == StacksDwarf
}

// followsHits reports whether processes become targets by hitting a probe.
func (r *recorder) followsHits() bool {
	return !r.opts.targeted() && r.opts.Stacks == StacksDwarf && r.wantStacks()
}

// followHit takes a process as a target that the programs took for one.
func (r *recorder) followHit(h *bpf.RawHdr) error {
	if r.alive[h.Pid] || !r.followsHits() {
		return nil
	}
	r.alive[h.Pid] = true
	r.calls.hitters = true
	p := r.procs.process(h.Pid)
	p.space.mappings, p.space.code = nil, nil
	r.procs.readMaps(p)
	return r.tellMappings(p, int64(h.Time))
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
