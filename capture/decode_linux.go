package capture

import (
	"bytes"
	"fmt"
	"strings"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// A decoder turns a record of one kind into events. The table of them is the
// only mapping between the kernel's kinds and the file's, so that neither
// numbering binds the other.
type decoder struct {
	kind   format.Kind // what a lost record of this kind would have been
	decode func(r *recorder, rec []byte) error
}

// The records of TCP are decoded by their own package.
var decoders = withTCP([bpf.RawKindCount]decoder{
	bpf.RawKindStack:    {format.KindInvalid, (*recorder).stack},
	bpf.RawKindSnapshot: {format.KindInvalid, (*recorder).snapshot},
	bpf.RawKindAlloc:    {format.KindAlloc, (*recorder).alloc},
	bpf.RawKindRealloc:  {format.KindRealloc, (*recorder).realloc},
	bpf.RawKindFree:     {format.KindFree, (*recorder).free},
	bpf.RawKindMap:      {format.KindMap, (*recorder).memMap},
	bpf.RawKindUnmap:    {format.KindUnmap, (*recorder).memUnmap},
	bpf.RawKindRemap:    {format.KindRemap, (*recorder).memRemap},
	bpf.RawKindBrk:      {format.KindBrk, (*recorder).memBrk},
	bpf.RawKindFork:     {format.KindFork, (*recorder).fork},
	bpf.RawKindExec:     {format.KindExec, (*recorder).exec},
	bpf.RawKindExit:     {format.KindExit, (*recorder).exit},
	bpf.RawKindComm:     {format.KindComm, (*recorder).comm},
	bpf.RawKindMapping:  {format.KindMapping, (*recorder).mapping},
	bpf.RawKindJoined:   {format.KindMapping, (*recorder).joined},
	bpf.RawKindCalled:   {format.KindCall, (*recorder).called},
})

// decode handles one record of the ring.
func (r *recorder) decode(rec []byte) error {
	h, err := view[bpf.RawHdr](rec)
	if err != nil {
		return err
	}
	if int(h.Kind) >= len(decoders) || decoders[h.Kind].decode == nil {
		return fmt.Errorf("%w: of unknown kind %d", bpf.ErrRecord, h.Kind)
	}
	// Probes are taken out one by one. What came after the recording's end may
	// be blocks whose frees were not seen any more.
	if k := decoders[h.Kind].kind; r.ended != 0 && int64(h.Time) > r.ended && memory.Has(k) {
		return nil
	}
	return decoders[h.Kind].decode(r, rec)
}

// memory are the kinds of blocks and of mappings.
var memory = format.NewKindSet(format.KindAlloc, format.KindRealloc, format.KindFree,
	format.KindMap, format.KindUnmap, format.KindRemap, format.KindBrk)

// view reads a record in place: the ring's memory was laid out by the same
// machine, and its size is checked.
func view[T any](rec []byte) (*T, error) {
	var t *T
	if len(rec) < int(unsafe.Sizeof(*t)) {
		return nil, fmt.Errorf("%w: of %d bytes, want %d", bpf.ErrRecord, len(rec), unsafe.Sizeof(*t))
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(rec))), nil
}

// event starts an event from a record's header.
func (r *recorder) event(k format.Kind, h *bpf.RawHdr) *format.Event {
	e := &r.ev
	e.Kind = k
	e.Time = int64(h.Time)
	e.Task = r.procs.task(h.Pid, h.Tid)
	return e
}

func (r *recorder) alloc(rec []byte) error {
	a, err := view[bpf.RawAlloc](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindAlloc, &a.Hdr)
	e.V[format.AllocAddr] = a.Addr
	e.V[format.AllocSize] = a.Size
	e.V[format.AllocStack] = uint64(r.stackRow(a.Stack))
	e.V[format.AllocFn] = uint64(a.Hdr.Fn)
	return r.w.Append(e)
}

func (r *recorder) realloc(rec []byte) error {
	a, err := view[bpf.RawRealloc](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindRealloc, &a.Hdr)
	e.V[format.ReallocOld] = a.Old
	e.V[format.ReallocAddr] = a.Addr
	e.V[format.ReallocSize] = a.Size
	e.V[format.ReallocStack] = uint64(r.stackRow(a.Stack))
	e.V[format.ReallocFn] = uint64(a.Hdr.Fn)
	e.V[format.ReallocDuration] = a.Hdr.Time - min(a.Entry, a.Hdr.Time)
	return r.w.Append(e)
}

func (r *recorder) free(rec []byte) error {
	f, err := view[bpf.RawFree](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindFree, &f.Hdr)
	e.V[format.FreeAddr] = f.Addr
	e.V[format.FreeFn] = uint64(f.Hdr.Fn)
	return r.w.Append(e)
}

func (r *recorder) stack(rec []byte) error {
	// The record is only as long as its frames.
	frames := unsafe.Offsetof(bpf.RawStack{}.Ip)
	if uintptr(len(rec)) < frames {
		return fmt.Errorf("%w: a stack of %d bytes", bpf.ErrRecord, len(rec))
	}
	h, err := view[bpf.RawHdr](rec)
	if err != nil {
		return err
	}
	hash := *(*uint64)(unsafe.Pointer(&rec[unsafe.Offsetof(bpf.RawStack{}.Hash)]))
	n := min(int(h.Aux), (len(rec)-int(frames))/8, len(bpf.RawStack{}.Ip))
	if n == 0 {
		r.stacks.add(hash, nil)
		return nil
	}
	ips := unsafe.Slice((*uint64)(unsafe.Pointer(&rec[frames])), n)
	if ips[0] == 0 {
		ips = ips[1:]
	}
	r.stacks.add(hash, ips)
	return nil
}

func (r *recorder) memMap(rec []byte) error {
	m, err := view[bpf.RawMap](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindMap, &m.Hdr)
	e.V[format.MapAddr] = m.Addr
	e.V[format.MapLength] = m.Length
	e.V[format.MapProt] = uint64(m.Prot)
	e.V[format.MapFlags] = uint64(m.Flags)
	e.V[format.MapFd] = uint64(int64(m.Fd))
	e.V[format.MapNested] = uint64(m.Hdr.Aux)
	e.V[format.MapStack] = 0
	return r.w.Append(e)
}

func (r *recorder) memUnmap(rec []byte) error {
	m, err := view[bpf.RawUnmap](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindUnmap, &m.Hdr)
	e.V[format.UnmapAddr] = m.Addr
	e.V[format.UnmapLength] = m.Length
	e.V[format.UnmapNested] = uint64(m.Hdr.Aux)
	if r.heap != nil { // else it is told just of code
		if err := r.w.Append(e); err != nil {
			return err
		}
	}
	if s := r.procs.last.proc.space; s.unmapped(m.Addr, m.Addr+m.Length) {
		e.Kind = format.KindUnmapping
		e.V[format.UnmappingStart], e.V[format.UnmappingEnd] = m.Addr, m.Addr+m.Length
		return r.w.Append(e)
	}
	return nil
}

func (r *recorder) memRemap(rec []byte) error {
	m, err := view[bpf.RawRemap](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindRemap, &m.Hdr)
	e.V[format.RemapOld] = m.Old
	e.V[format.RemapOldLength] = m.OldLength
	e.V[format.RemapAddr] = m.Addr
	e.V[format.RemapLength] = m.Length
	e.V[format.RemapNested] = uint64(m.Hdr.Aux)
	return r.w.Append(e)
}

func (r *recorder) memBrk(rec []byte) error {
	b, err := view[bpf.RawBrk](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindBrk, &b.Hdr)
	sp := r.procs.last.proc.space
	old := sp.brk
	sp.brk = b.Now
	if b.Asked == 0 || b.Now != b.Asked || old == b.Now {
		return nil // it was asked where the break is, or could not move it
	}
	e.V[format.BrkOld] = old
	e.V[format.BrkNew] = b.Now
	e.V[format.BrkNested] = uint64(b.Hdr.Aux)
	return r.w.Append(e)
}

const (
	forkSharesVM = 1
	forkIsThread = 2
)

func (r *recorder) fork(rec []byte) error {
	f, err := view[bpf.RawFork](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindFork, &f.Hdr)
	child := r.procs.fork(r.procs.last.proc, f.ChildPid, f.ChildTid, f.Hdr.Aux&forkSharesVM != 0, cstring(f.Comm[:]))
	r.alive[f.ChildPid] = true
	e.V[format.ForkChildPid] = uint64(f.ChildPid)
	e.V[format.ForkChildTid] = uint64(f.ChildTid)
	e.V[format.ForkChildSpace] = uint64(child.space.id)
	e.V[format.ForkSharedVM] = flag(f.Hdr.Aux&forkSharesVM != 0)
	e.V[format.ForkThread] = flag(f.Hdr.Aux&forkIsThread != 0)
	if err := r.w.Append(e); err != nil || f.Hdr.Aux&forkIsThread != 0 {
		return err
	}
	for _, p := range r.targetProbes() {
		if err := p.born(f.Hdr.Pid, f.Hdr.Tid, child.pid, int64(f.Hdr.Time)); err != nil {
			return err
		}
	}
	return nil
}

// exec is told in the old life of the task, with the space of the new one.
func (r *recorder) exec(rec []byte) error {
	x, err := view[bpf.RawExec](rec)
	if err != nil {
		return err
	}
	e := r.event(format.KindExec, &x.Hdr)
	p := r.procs.exec(x.Hdr.Pid, x.Hdr.Aux, cstring(x.Comm[:]))
	known := r.alive[x.Hdr.Pid]
	r.alive[x.Hdr.Pid] = true
	e.V[format.ExecPath] = uint64(r.w.String(cstring(x.Path[:])))
	e.V[format.ExecSpace] = uint64(p.space.id)
	if err := r.w.Append(e); err != nil {
		return err
	}
	r.procs.execMaps(p, x)
	if err := r.tellMappings(p, int64(x.Hdr.Time)); err != nil {
		return err
	}
	for _, probes := range r.targetProbes() {
		if known && probes.at.FollowsFork() {
			continue
		}
		if err := probes.named(p.pid, cstring(x.Comm[:]), int64(x.Hdr.Time)); err != nil {
			return err
		}
	}
	if r.heap == nil || !known || !r.heap.at.FollowsFork() {
		return nil
	}
	return r.heap.replaced(p.pid, moduleKey{userDev(x.Dev), x.Ino}, cstring(x.Path[:]), int64(x.Hdr.Time))
}

func (r *recorder) exit(rec []byte) error {
	x, err := view[bpf.RawExit](rec)
	if err != nil {
		return err
	}
	gone := x.Hdr.Aux != 0
	e := r.event(format.KindExit, &x.Hdr)
	spaceGone := r.procs.exit(x.Hdr.Pid, x.Hdr.Tid, gone)
	for _, p := range r.targetProbes() {
		if err := p.ended(x.Hdr.Pid, gone, int64(x.Hdr.Time)); err != nil {
			return err
		}
	}
	if !gone {
		return nil
	}
	delete(r.alive, x.Hdr.Pid)
	e.V[format.ExitCode] = uint64(x.Code)
	e.V[format.ExitSpaceGone] = flag(spaceGone)
	return r.w.Append(e)
}

func (r *recorder) comm(rec []byte) error {
	c, err := view[bpf.RawComm](rec)
	if err != nil {
		return err
	}
	name := cstring(c.Comm[:])
	e := r.event(format.KindComm, &c.Hdr)
	r.procs.rename(c.Hdr.Pid, c.Hdr.Tid, name)
	e.V[format.CommName] = uint64(r.w.String(name))
	return r.w.Append(e)
}

func (r *recorder) mapping(rec []byte) error {
	m, err := view[bpf.RawMapping](rec)
	if err != nil {
		return err
	}
	s := r.procs.thread(m.Hdr.Pid, m.Hdr.Tid).proc.space
	mod := r.modules.openNew(m.Hdr.Pid, moduleKey{userDev(m.Dev), m.Ino}, m.Start, m.Length, cstring(m.Name[:]))
	mp := mapping{start: m.Start, end: m.Start + m.Length, offset: m.Offset, module: mod}
	s.mapped(mp)
	return r.tellMapping(mp, r.procs.task(m.Hdr.Pid, m.Hdr.Tid), int64(m.Hdr.Time))
}

// tellMappings writes an event for each mapping of a process.
func (r *recorder) tellMappings(p *process, now int64) error {
	for _, m := range p.space.mappings {
		if err := r.tellMapping(m, r.procs.task(p.pid, p.pid), now); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) tellMapping(m mapping, task format.TaskID, now int64) error {
	e := &r.ev
	e.Kind, e.Task, e.Time = format.KindMapping, task, now
	e.V[format.MappingStart] = m.start
	e.V[format.MappingEnd] = m.end
	e.V[format.MappingOffset] = m.offset
	e.V[format.MappingModule] = uint64(m.module.id)
	return r.w.Append(e)
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// cstring reads a NUL-terminated field of a record.
func cstring(b []int8) string {
	u := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b))), len(b))
	s, _, _ := bytes.Cut(u, []byte{0})
	return strings.Clone(string(s))
}
