package capture

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/probe"
)

// heapProbes is the heap pack while it records: which allocators are probed.
type heapProbes struct {
	targetProbes
	// functions mirrors the map of that name: what is probed, by table and
	// offset in the page.
	functions map[uint32]uint32
	armed     map[moduleKey]bool // executables whose processes need nothing more
}

func (r *recorder) attachHeap() error {
	at, tfs, err := r.newTargetProbes("heap", len(r.opts.Packs) > 0)
	if err != nil {
		return err
	}
	r.heap = &heapProbes{targetProbes: at, functions: map[uint32]uint32{}, armed: map[moduleKey]bool{}}
	r.heap.targetProbes.arm = r.heap.arm
	r.modules.opened = append(r.modules.opened, r.heap.appeared)
	if tfs == nil {
		return r.heap.warn("tracefs cannot be used: children of targets are recorded from a moment after their birth, mappings not at all; see `tcap doctor`")
	}
	if !at.at.FollowsFork() {
		if err := r.heap.warn("uprobe events cannot be defined: children of targets are recorded from a moment after their birth; see `tcap doctor`"); err != nil {
			return err
		}
	}
	return r.attachMemory(tfs)
}

// arm probes the allocators of a process: those that it has mapped, and those
// that it is going to map, which costs nothing until it does.
func (h *heapProbes) arm(pid uint32) error {
	found, err := probe.FindAllocators(int(pid), h.r.opts.DebugDirs...)
	if err != nil && ended(pid) {
		return nil // the ring will say so
	}
	if err := h.probe(found, err); err != nil {
		return err
	}
	later, err := probe.Prearm(int(pid), h.r.opts.DebugDirs...)
	if err != nil && ended(pid) {
		return nil
	}
	return h.probe(later, err)
}

// replaced arms a target that has replaced its image, unless that was done for
// the same executable before. What it allocates until then is missed, which is
// nothing if its allocator was probed already, as libc is in most cases.
func (h *heapProbes) replaced(pid uint32, executable moduleKey, name string, at int64) error {
	if h.armed[executable] {
		return nil
	}
	h.armed[executable] = true
	before := len(h.at.Attachments())
	if err := h.arm(pid); err != nil {
		return err
	}
	if len(h.at.Attachments()) == before {
		return nil
	}
	return h.late(pid, name, at)
}

// late says that probes came after the code that they are for.
func (h *heapProbes) late(pid uint32, name string, since int64) error {
	return h.r.note(true, fmt.Sprintf("pid %d: %s has an allocator that was not known before: what it did in the first %v is not recorded",
		pid, name, time.Duration(monotonic()-since).Round(10*time.Microsecond)))
}

// appeared looks whether a file that was just mapped for the first time is an
// allocator. One that the dynamic loader was bound to map is probed already; one
// that came by dlopen from an unusual place is probed from here on.
//
// The ring waits meanwhile, and on kernels before 6.12 newborn processes for
// their probes: a libc that is probed already is not read once more.
func (h *heapProbes) appeared(pid uint32, m *module) {
	start := monotonic()
	if info, err := m.file.Stat(); err == nil && h.at.Probes(info) {
		return
	}
	o, err := probe.ReadObject("/proc/self/fd/"+itoa(m.file.Fd()), m.path, false)
	if err != nil || len(o.Functions) == 0 {
		return
	}
	before := len(h.at.Attachments())
	if h.probe([]probe.Object{o}, nil) == nil && len(h.at.Attachments()) > before {
		h.late(pid, m.path, start)
	}
}

// probe attaches to all functions of the objects. err is what went wrong when
// they were looked for.
func (h *heapProbes) probe(objects []probe.Object, err error) error {
	if err != nil {
		if err := h.warn(err.Error()); err != nil {
			return err
		}
	}
	objs := &h.r.objs
	var functions []probe.Function
	for _, o := range objects {
		functions = append(functions, o.Functions...)
	}
	// A program that runs meanwhile must not be seen to allocate what it is not
	// seen to free, so what ends blocks comes first.
	slices.SortStableFunc(functions, func(a, b probe.Function) int { return cmp.Compare(rank(a), rank(b)) })
	var specs []probe.Spec
	for _, f := range functions {
		table, err := h.tell(f)
		if err != nil {
			return h.failed(err)
		}
		if !f.HasReturn() {
			specs = append(specs, probe.Spec{Point: f.Entry, Prog: objs.HeapFree, Cookie: table})
			continue
		}
		// The return program knows the call from its entry. It comes first:
		// an entry whose return is not seen would look like a call that runs on.
		specs = append(specs,
			probe.Spec{Point: f.Return, Prog: objs.HeapReturn},
			probe.Spec{Point: f.Entry, Prog: objs.HeapEnter, Cookie: table})
	}
	if len(specs) == 0 {
		return nil
	}
	if _, err := h.at.AttachAll(specs); err != nil {
		return h.failed(err)
	}
	return nil
}

// rank orders functions by when they are probed.
func rank(f probe.Function) int {
	switch f.Shape {
	case bpf.RawShapeOfFree:
		return 0
	case bpf.RawShapeOfRealloc, bpf.RawShapeOfReallocarray:
		return 1
	}
	return 2
}

const (
	pageOffsets = 1 << 12
	tables      = 64 // both as bpf/heap.h has them
)

// tell says to the programs which function is probed at a place, and returns
// the table in which it does: the first whose slot for the place's offset in
// its page is not another function's.
func (h *heapProbes) tell(f probe.Function) (table uint64, err error) {
	slot := uint32(f.Entry.Offset % pageOffsets)
	what := uint32(f.Cookie())
	for table := range uint32(tables) {
		at := table*pageOffsets + slot
		if old, taken := h.functions[at]; taken && old != what {
			continue
		}
		h.functions[at] = what
		if err := h.r.objs.Functions.Put(at, what); err != nil {
			return 0, fmt.Errorf("tell the programs of %s: %w", f.Entry.Name, err)
		}
		return uint64(table), nil
	}
	return 0, fmt.Errorf("probe %s: %d functions share its offset in a page", f.Entry.Name, tables)
}
