package format

import (
	"fmt"
	"slices"
)

// An editor decides what becomes of a block: of its payload, decompressed, it
// returns what is to be there, which may be the same, or that the block is left out.
type editor func(b *BlockInfo, payload []byte) (edited []byte, keep bool)

// DropSnapshots leaves out the copies of stacks; those that still wait will not be
// unwound. It does nothing, and reports that, where there is damage between
// blocks, which nobody could tell any more if they were put closer together.
func (a *Amender) DropSnapshots() bool {
	if len(a.r.structural) > 0 || a.size > a.blocks[len(a.blocks)-1].End() {
		return false
	}
	a.endWaiting()
	a.edit = func(b *BlockInfo, payload []byte) ([]byte, bool) { return payload, b.Type != BlockSnapshots }
	return true
}

// endWaiting says of the stacks that wait that they will not be unwound.
func (a *Amender) endWaiting() {
	for id := range a.r.tables.endOf {
		if id := StackID(id); a.endOf(id) == EndWaiting {
			a.EndStack(id, a.r.tables.wholeOf[id], EndDropped)
		}
	}
}

// copyEdited writes the blocks that are kept, as they were edited. A block that did
// not change keeps its bytes, and so does one that cannot be read, unless nothing
// may be kept that was not looked at: then its header stays, which tells what is lost, as it does for
// damage between blocks. What is left out leaves no gap in the sequence numbers.
func (a *Amender) copyEdited(s *sink) error {
	var bufs buffers
	var out []byte
	gone := uint32(0)
	kept := make([]BlockInfo, 0, len(a.blocks))
	blocks := a.blocks
	if a.redacted != nil {
		blocks = withLost(blocks, a.r.between())
	}
	for i := range blocks {
		b := blocks[i]
		payload, err := a.r.payload.read(&b, &bufs)
		edited, keep := payload, true
		switch {
		case err == nil:
			edited, keep = a.edit(&b, payload)
		case a.redacted != nil:
			a.redacted.Left++
			b.leaveOut()
			bufs.stored = nil
		default:
			keep = a.rawBytes(&b, &bufs)
		}
		if !keep {
			gone++
			continue
		}
		body := bufs.stored
		if err == nil && !same(edited, payload) {
			b.RawLen = len(edited)
			if body = edited; b.Codec == codecZstd {
				body = s.zstd.EncodeAll(edited, nil)
			}
			b.StoredLen, b.crc = len(body), checksum(body)
		}
		b.Seq -= gone
		b.Offset = s.written.Load()
		b.Minor = max(b.Minor, Minor)
		out = append(b.appendHeader(out[:0]), body...)
		n, err := s.w.Write(out)
		s.written.Add(int64(n))
		if err != nil {
			return err
		}
		kept = append(kept, b)
	}
	if len(kept) == 0 {
		return fmt.Errorf("%w: no block can be read", ErrMalformed)
	}
	s.goOn(kept)
	return nil
}

// leaveOut makes of a block one that tells only what is lost with it.
func (b *BlockInfo) leaveOut() {
	b.Codec, b.StoredLen, b.RawLen, b.crc = codecNone, 0, 1, checksum(nil)
}

// isLeftOut reports whether that was done.
func (b *BlockInfo) isLeftOut() bool { return b.StoredLen == 0 && b.RawLen > 0 }

// errLeftOut is what is wrong with such a block.
var errLeftOut = fmt.Errorf("%w: it could not be read and was left out", ErrMalformed)

// between is the damage between blocks, with what is known of it.
func (r *Reader) between() []Damage {
	return slices.DeleteFunc(r.Damage(), func(d Damage) bool {
		return !slices.ContainsFunc(r.structural, func(s Damage) bool { return s.Offset == d.Offset })
	})
}

// withLost puts blocks that are left out where events are missing between others.
func withLost(blocks []BlockInfo, lost []Damage) []BlockInfo {
	out := make([]BlockInfo, 0, len(blocks)+len(lost))
	for i := range blocks {
		b := &blocks[i]
		for len(lost) > 0 && lost[0].Offset < b.Offset {
			d := &lost[0]
			lost = lost[1:]
			if len(out) == 0 || d.Events <= 0 {
				continue
			}
			last := &out[len(out)-1]
			before, seq := last.EventsBefore+uint64(last.Events), last.Seq+1
			for ; before < b.EventsBefore && seq < b.Seq; seq++ {
				l := BlockInfo{Type: BlockEvents, Major: Major, Offset: d.Offset, Seq: seq, EventsBefore: before, kindBits: ^uint32(0)}
				l.FirstTime, l.LastTime = d.From, max(d.From, d.To)
				l.Events = int(min(b.EventsBefore-before, maxEvents))
				l.leaveOut()
				before += uint64(l.Events)
				out = append(out, l)
			}
		}
		out = append(out, *b)
	}
	return out
}

// rawBytes takes the stored bytes of a block as they are.
func (a *Amender) rawBytes(b *BlockInfo, bufs *buffers) bool {
	bufs.stored = append(bufs.stored[:0], make([]byte, b.StoredLen)...)
	n, _ := a.r.src.ReadAt(bufs.stored, b.Offset+headerSize)
	return n == b.StoredLen
}

// same reports whether two slices are one.
func same(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// A NewFrame is a frame that was added to a capture.
type NewFrame struct {
	ID FrameID
	Frame
}

// NewFrames lists the frames that were added so far, by their number.
func (a *Amender) NewFrames() []NewFrame { return a.since(FrameID(max(a.r.tables.frames.end(), 1))) }

// EndStack is [interner.EndStack] of a capture that is amended.
func (a *Amender) EndStack(stack, whole StackID, end StackEnd) {
	if a.ends == nil {
		a.ends = map[StackID]StackEnd{}
	}
	a.ends[stack] = end
	a.interner.EndStack(stack, whole, end)
}

// endOf is why a stack has no more frames, with what was added.
func (a *Amender) endOf(id StackID) StackEnd {
	if end, ok := a.ends[id]; ok {
		return end
	}
	return a.r.StackEnd(id)
}

// CountEnds counts the events anew by how their stacks end, as the end of the
// capture tells it. It reads all events, as they name their stacks in the file. The error is that of the
// operating system; damaged blocks are left out.
func (a *Amender) CountEnds() error {
	if a.r.trailer == nil || a.r.trailer.StackEnds == nil {
		return nil
	}
	named := Reader{src: a.r.src, size: a.r.size, payload: a.r.payload, maxMemory: a.r.maxMemory, workers: a.r.workers, kinds: a.r.kinds, blocks: a.r.blocks}
	named.tables = a.r.tables
	named.tables.wholeOf = nil
	counts := map[StackID]uint64{}
	for res, err := range named.Batches(Filter{}, nil) {
		if res.Batch == nil {
			if err := ignoreDamage(err); err != nil {
				return err
			}
			continue
		}
		res.Batch.countStacks(named.kinds, counts)
	}
	a.counts = map[string]uint64{}
	for id, n := range counts {
		if end := a.endOf(id); end != EndUnknown { // of those nothing was said before
			a.counts[end.String()] += n
		}
	}
	return nil
}

// countStacks counts the events that have each stack.
func (b *Batch) countStacks(kinds []KindInfo, counts map[StackID]uint64) {
	for k, n := range b.rowCount {
		if n == 0 || k >= len(kinds) {
			continue
		}
		for f, field := range kinds[k].Fields {
			if field.Type != TypeStack || f >= len(b.Cols[k]) {
				continue
			}
			for _, id := range b.Cols[k][f] {
				if id != 0 {
					counts[StackID(id)]++
				}
			}
		}
	}
}
