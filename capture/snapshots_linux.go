package capture

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/snapshot"
	"github.com/tcap-dev/tcap/capture/unwind"
	"github.com/tcap-dev/tcap/format"
)

// snapshots turns signatures of stacks into rows of the capture. A signature
// that comes for the first time gets a row of its own, of which only the innermost
// frame is known; its snapshot is unwound beside the recording, and when that is
// done, the capture is told which stack the row is in truth.
//
// All methods may be called of nil, which has no stacks.
type snapshots struct {
	frames
	unwinding *snapshot.Unwinding // nil: the capture keeps the snapshots, to be unwound later
	sent      forgetter           // the kernel's list of signatures that were sent
	kernel    *bpf.RawObjects

	signatures
	told  map[format.StackID]format.StackEnd // whole stacks whose end was told
	ended [format.StackEnds]uint64           // events by how their stack ends, of signatures that are forgotten

	lost     uint64 // events whose snapshot was lost in the ring
	finished bool

	memory []byte // of the snapshot that is being kept
}

// kernelSteps is where the kernel is taught to recognise stacks.
type kernelSteps struct{ objs *bpf.RawObjects }

func (k kernelSteps) PutRow(n uint32, row *bpf.RawStepRow) error { return k.objs.Steps.Put(n, row) }

func (k kernelSteps) PutEdge(from bpf.RawEdge, row uint32) error { return k.objs.Edges.Put(from, row) }

func (k kernelSteps) DeleteEdge(from bpf.RawEdge) error {
	if err := k.objs.Edges.Delete(from); !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

func newSnapshots(fs frames, objs *bpf.RawObjects, o *Options) *snapshots {
	ss := &snapshots{
		frames: fs, sent: objs.Signatures, kernel: objs,
		signatures: newSignatures(), told: map[format.StackID]format.StackEnd{},
	}
	if o.Unwind != UnwindOffline {
		ss.unwinding = snapshot.Start(kernelSteps{objs}, o.DebugDirs, o.StackSize)
	}
	return ss
}

// findCode makes the kernel know the code that targets have mapped already. What
// comes and goes from here on it sees by itself.
func (r *recorder) findCode() error {
	if r.opts.Stacks != StacksDwarf || !r.opts.targeted() && !r.wantStacks() {
		return nil
	}
	for last := range uint32(2) {
		if err := r.objs.LastWalk.Set(last); err != nil {
			return fmt.Errorf("look for code: %w", err)
		}
		it, err := link.AttachIter(link.IterOptions{Program: r.objs.CodeThere})
		if err != nil {
			return fmt.Errorf("look for code: %w", err)
		}
		f, err := it.Open()
		if err == nil {
			_, err = io.Copy(io.Discard, f)
			f.Close()
		}
		it.Close()
		if err != nil {
			return fmt.Errorf("look for code: %w", err)
		}
	}
	return nil
}

// stackRow gives the capture's stack for what an event of the current thread
// has of it.
func (r *recorder) stackRow(id uint64) format.StackID {
	if r.snaps != nil {
		return r.snaps.row(id)
	}
	return r.stacks.row(id, r.procs.last.proc.space)
}

func (r *recorder) snapshot(rec []byte) error {
	h, err := view[bpf.RawHdr](rec)
	if err != nil {
		return err
	}
	s, err := snapshot.Decode(rec)
	if err != nil {
		return err
	}
	return r.snaps.add(s, r.procs.thread(h.Pid, h.Tid).proc.space)
}

// add has a snapshot unwound, or kept, if its signature is new. The error is that
// of the file.
func (ss *snapshots) add(s snapshot.Snapshot, in *space) error {
	sig, young := ss.find(s.ID)
	if young && !sig.dropped {
		return nil
	}
	known := sig != nil
	if !known {
		sig = &signature{row: ss.w.NewStack(ss.frame(s.First(), in))}
	}
	ss.young[s.ID] = sig
	if ss.unwinding == nil {
		if known {
			return nil // its copy is in the capture
		}
		return ss.keep(sig, &s, in)
	}
	asked := ss.unwinding.Ask(s, in.maps().live, in)
	if !asked {
		_ = ss.sent.Delete(s.ID) // so that it comes again
	}
	sig.dropped = !asked && sig.end == format.EndUnknown
	return nil
}

// keep puts a snapshot into the capture.
func (ss *snapshots) keep(sig *signature, s *snapshot.Snapshot, in *space) error {
	sig.end = format.EndWaiting
	ss.memory = s.Unpack(ss.memory)
	ss.w.EndStack(sig.row, sig.row, sig.end)
	at := s.State(nil)
	var rest []format.SnapshotPart
	for _, p := range at.Rest {
		rest = append(rest, format.SnapshotPart(p))
	}
	return ss.w.Snapshot(&format.Snapshot{
		Stack: sig.row, Maps: in.maps().kept(in.generated(ss.w)), Inside: at.Point == unwind.Inside,
		PC: at.PC, SP: at.SP, FP: at.FP, LR: at.LR, Regs: at.Regs, Memory: at.Stack,
		Rest: rest,
	})
}

// codeMaps are the mappings of an address space as they were at one time, for good.
type codeMaps struct {
	live []snapshot.Mapping
	file []format.CodeMapping // the same, as a capture has them; nil to be made
	jit  *module              // that file has
}

func (s *space) maps() *codeMaps {
	if s.code == nil {
		s.code = &codeMaps{live: make([]snapshot.Mapping, 0, len(s.mappings))}
		for _, m := range s.mappings {
			s.code.live = append(s.code.live, snapshot.Mapping{Start: m.start, End: m.end, Offset: m.offset, File: m.module.code})
		}
	}
	return s.code
}

// kept are the mappings as a capture has them. All else is in the module jit, if
// that is not nil.
func (c *codeMaps) kept(jit *module) []format.CodeMapping {
	if c.file != nil && c.jit == jit {
		return c.file
	}
	c.file, c.jit = make([]format.CodeMapping, 0, len(c.live)+1), jit
	if jit != nil {
		c.file = append(c.file, format.CodeMapping{Module: jit.id})
	}
	for _, m := range c.live {
		c.file = append(c.file, format.CodeMapping{Start: m.Start, End: m.End, Offset: m.Offset, Module: m.File.Owner.(*module).id})
	}
	slices.SortFunc(c.file, func(a, b format.CodeMapping) int { return cmp.Compare(a.Start, b.Start) })
	return c.file
}

// row gives the row of a signature, as far as it is known by now.
func (ss *snapshots) row(id uint64) format.StackID {
	if id == 0 {
		return 0
	}
	s := ss.get(id)
	if s == nil {
		ss.lost++
		return 0
	}
	s.events++
	return s.row
}

// collect tells the capture what was unwound since the last time.
func (ss *snapshots) collect() {
	if ss != nil && !ss.finished && ss.unwinding != nil {
		ss.tell(ss.unwinding.Answers())
	}
}

func (ss *snapshots) tell(answers []snapshot.Answer) {
	for i := range answers {
		a := &answers[i]
		s := ss.keepOn(a.ID)
		if s == nil || s.end != format.EndUnknown {
			continue // it was unwound once more, to be learned
		}
		whole := format.StackID(0)
		for j := len(a.Frames) - 1; j >= 0; j-- {
			whole = ss.w.Stack(whole, ss.unwound(&a.Frames[j], a))
		}
		s.end = snapshot.EndOf(a.End)
		ss.w.EndStack(s.row, whole, s.end)
		if _, ok := ss.told[whole]; !ok {
			ss.told[whole] = s.end
			ss.w.EndStack(whole, whole, s.end)
		}
		s.row = whole
	}
}

// unwound gives the row of a frame.
func (ss *snapshots) unwound(f *unwind.Frame, a *snapshot.Answer) format.FrameID {
	in, pc := snapshot.Place(f, a.Maps)
	if in != nil {
		return ss.at(in.File.Owner.(*module), in.Offset+pc-in.Start)
	}
	if m := a.Owner.(*space).generated(ss.w); m != nil {
		return ss.at(m, pc)
	}
	return ss.w.Frame(format.Frame{Offset: pc})
}

// finish unwinds the rest.
func (ss *snapshots) finish() error {
	if ss == nil || ss.finished {
		return nil
	}
	ss.finished = true
	var err error
	if ss.unwinding != nil {
		var rest []snapshot.Answer
		rest, err = ss.unwinding.Finish()
		ss.tell(rest)
	}
	for _, s := range ss.all() {
		ss.forget(s)
	}
	ss.young, ss.old = nil, nil
	return err
}

// ends counts the events with a stack by how it ends.
func (ss *snapshots) ends() map[string]uint64 {
	if ss == nil {
		return nil
	}
	out := map[string]uint64{}
	for end, n := range ss.ended {
		if n > 0 {
			out[format.StackEnd(end).String()] = n
		}
	}
	return out
}

// remark says what there is to know of the stacks.
func (ss *snapshots) remark(note func(warning bool, text string) error) error {
	if ss == nil {
		return nil
	}
	var all, whole uint64
	var parts []string
	for end, n := range ss.ended {
		all += n
		if end := format.StackEnd(end); end == format.EndComplete {
			whole = n
		} else if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, end.Explain()))
		}
	}
	var err error
	if len(parts) > 0 {
		err = note(false, fmt.Sprintf("stacks of %d of %d events are complete; of the others, %s", whole, all, strings.Join(parts, ", ")))
	}
	if ss.lost > 0 {
		err = errors.Join(err, note(true, fmt.Sprintf("%d events have no stack: its copy was lost in the ring", ss.lost)))
	}
	return errors.Join(err, ss.costs(note))
}

// costs says how often stacks were recognised, which is what they cost.
func (ss *snapshots) costs(note func(warning bool, text string) error) error {
	var n [3]uint64
	for i := range n {
		var perCPU []uint64
		if err := ss.kernel.Ways.Lookup(uint32(i), &perCPU); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("count how stacks were recognised: %w", err)
		}
		for _, v := range perCPU {
			n[i] += v
		}
	}
	if ss.unwinding == nil {
		return note(false, fmt.Sprintf("stacks: %d signatures, whose copies are in the capture; %d events compared by signature, %d snapshots sent, %d without room for a copy",
			ss.seen(), n[0], n[1], n[2]))
	}
	rows, full, odd := ss.unwinding.Counts()
	work := ss.unwinding.Work()
	return note(false, fmt.Sprintf("stacks: %d signatures, %d rows of steps (%d found no room, %d do not fit), %d times begun anew; %d events compared by signature, %d snapshots sent, %d without room for a copy; unwound %d stacks of %d frames, %d at new addresses, in %v",
		ss.seen(), rows, full, odd, ss.begun, n[0], n[1], n[2], work.Stacks, work.Frames, work.Cold, work.Time.Round(time.Millisecond)))
}
