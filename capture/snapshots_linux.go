package capture

import (
	"errors"
	"fmt"
	"io"
	"strings"

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
	unwinding *snapshot.Unwinding
	sent      forgetter // the kernel's list of signatures that were sent
	kernel    *bpf.RawObjects

	byID  map[uint64]*signature
	cache [1 << 10]struct {
		id uint64
		s  *signature
	}
	told  map[format.StackID]format.StackEnd // whole stacks whose end was told
	ended [format.StackEnds]uint64           // events by how their stack ends

	lost     uint64 // events whose snapshot was lost in the ring
	finished bool
}

// A signature is what is known of a stack.
type signature struct {
	row     format.StackID
	end     format.StackEnd // EndUnknown until it is unwound
	dropped bool            // its snapshot found no room to wait
	events  uint64          // so far, while the end is unknown
}

// kernelSteps is where the kernel is taught to recognise stacks.
type kernelSteps struct{ objs *bpf.RawObjects }

func (k kernelSteps) PutRow(n uint32, row *bpf.RawStepRow) error { return k.objs.Steps.Put(n, row) }

func (k kernelSteps) PutEdge(from bpf.RawEdge, row uint32) error { return k.objs.Edges.Put(from, row) }

func newSnapshots(fs frames, objs *bpf.RawObjects) *snapshots {
	return &snapshots{
		frames: fs, unwinding: snapshot.Start(kernelSteps{objs}), sent: objs.Signatures, kernel: objs,
		byID: map[uint64]*signature{}, told: map[format.StackID]format.StackEnd{},
	}
}

// findCode makes the kernel know the code that targets have mapped already. What
// comes and goes from here on it sees by itself.
func (r *recorder) findCode() error {
	if r.opts.Stacks != StacksDwarf || !r.opts.targeted() && !r.followsHits() {
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
	if err := r.followHit(h); err != nil {
		return err
	}
	r.snaps.add(s, r.procs.thread(h.Pid, h.Tid).proc.space)
	return nil
}

// add has a snapshot unwound, if its signature is new.
func (ss *snapshots) add(s snapshot.Snapshot, in *space) {
	sig := ss.byID[s.ID]
	if sig != nil && !sig.dropped {
		return
	}
	if sig == nil {
		sig = &signature{row: ss.w.NewStack(ss.frame(s.First(), in))}
		ss.byID[s.ID] = sig
	}
	sig.dropped = !ss.unwinding.Ask(s, in.maps(), in)
	if sig.dropped {
		_ = ss.sent.Delete(s.ID) // so that it comes again
	}
}

// maps are the mappings of an address space as they are now, for good.
func (s *space) maps() []snapshot.Mapping {
	if s.code == nil {
		s.code = make([]snapshot.Mapping, 0, len(s.mappings))
		for _, m := range s.mappings {
			s.code = append(s.code, snapshot.Mapping{Start: m.start, End: m.end, Offset: m.offset, File: m.module.code})
		}
	}
	return s.code
}

// row gives the row of a signature, as far as it is known by now.
func (ss *snapshots) row(id uint64) format.StackID {
	if id == 0 {
		return 0
	}
	c := &ss.cache[id%uint64(len(ss.cache))]
	if c.id != id {
		s := ss.byID[id]
		if s == nil {
			ss.lost++
			return 0
		}
		c.id, c.s = id, s
	}
	c.s.events++
	return c.s.row
}

// collect tells the capture what was unwound since the last time.
func (ss *snapshots) collect() {
	if ss != nil && !ss.finished {
		ss.tell(ss.unwinding.Answers())
	}
}

func (ss *snapshots) tell(answers []snapshot.Answer) {
	for i := range answers {
		a := &answers[i]
		s := ss.byID[a.ID]
		whole := format.StackID(0)
		for j := len(a.Frames) - 1; j >= 0; j-- {
			whole = ss.w.Stack(whole, ss.unwound(&a.Frames[j], a))
		}
		s.end = stackEnds[a.End]
		ss.w.EndStack(s.row, whole, s.end)
		if _, ok := ss.told[whole]; !ok {
			ss.told[whole] = s.end
			ss.w.EndStack(whole, whole, s.end)
		}
		s.row = whole
	}
}

// stackEnds are the reasons why a stack has no more frames.
var stackEnds = map[unwind.End]format.StackEnd{
	unwind.Complete: format.EndComplete, unwind.SnapshotEnd: format.EndCopy, unwind.NoRule: format.EndNoRule,
	unwind.NoCode: format.EndNoCode, unwind.BadStep: format.EndMisfit, unwind.Limit: format.EndLimit,
	unwind.Switched: format.EndSwitched,
}

// unwound gives the row of a frame.
func (ss *snapshots) unwound(f *unwind.Frame, a *snapshot.Answer) format.FrameID {
	pc := f.PC
	if !f.IsReturn {
		pc++ // the capture has return addresses, which are one behind what they tell of
	}
	for i := range a.Maps {
		if m := &a.Maps[i]; pc-m.Start < m.End-m.Start {
			return ss.at(m.File.Owner.(*module), m.Offset+pc-m.Start)
		}
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
	rest, err := ss.unwinding.Finish()
	ss.tell(rest)
	for _, s := range ss.byID {
		if s.dropped {
			s.end = format.EndDropped
			ss.w.EndStack(s.row, s.row, s.end)
		}
		ss.ended[s.end] += s.events
	}
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
	rows, full, odd := ss.unwinding.Counts()
	return note(false, fmt.Sprintf("stacks: %d signatures, %d rows of steps (%d found no room, %d do not fit); %d events compared by signature, %d snapshots sent, %d without room for a copy",
		len(ss.byID), rows, full, odd, n[0], n[1], n[2]))
}
