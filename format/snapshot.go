package format

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// A Snapshot is the copy of a thread's stack from which its callers are still to
// be found: [Writer.EndStack] with [EndWaiting] says so of its row. It has what
// the program kept on its stack, be it a password. So recorders write
// none unless they are told to, and redacting a capture drops them.
type Snapshot struct {
	Stack StackID       // the row that it is to tell of
	Maps  []CodeMapping // what was mapped as code, ascending
	// The state of the thread once the function that was entered has returned, or,
	// if Inside, in the midst of one: the address of the next instruction, the stack
	// pointer, the frame pointer (rbp, x29), the link register (x30) and the other
	// registers that calls preserve (rbx, r12 to r15; x19 to x28).
	Inside         bool
	PC, SP, FP, LR uint64
	Regs           []uint64
	Memory         []byte // from SP upwards
	// What the stack goes on in, if it is one for signals only, or has several pieces.
	Rest []SnapshotPart
}

// maxSnapshotParts bounds the parts of a stack; a recorder has 15 at most.
const maxSnapshotParts = 64

// A SnapshotPart is memory from At upwards.
type SnapshotPart struct {
	At     uint64
	Memory []byte
}

// A CodeMapping is executable memory of a file. One from 0 to 0 stands for all
// other memory: its module is the file in which the process named the code that
// it made itself, and the offsets there are addresses.
type CodeMapping struct {
	Start, End uint64 // addresses; End is the first after
	Offset     uint64 // of Start in the file, bytes
	Module     ModuleID
}

// The payload of a block of snapshots is a list of records, whose lengths let a
// reader skip those of tags that it does not know:
//
//	+---------+------------------+------+
//	| tag <1> | length <uvarint> | body |
//	+---------+------------------+------+
//
// A list of mappings has four uvarints for each: module, start less the end
// before, length, offset. A snapshot refers to one of the lists in
// the same block, by its number from 0. A rest belongs to the snapshot before it.
const (
	recordMaps     = 1
	recordSnapshot = 2
	recordRest     = 3
)

const (
	maxSnapshotRegs = 64
	// maxFreshSnapshots bounds the snapshots that wait to be written, bytes.
	maxFreshSnapshots = 4 << 20
	// maxBlockMaps bounds the mappings in the lists of one block, and the lists.
	maxBlockMaps = 1 << 18
)

// snapshotRows collects the records of one block.
type snapshotRows struct {
	fresh []byte
	maps  map[*CodeMapping]uint64 // number of the list that begins there
	some  int                     // mappings in the lists
	body  []byte
}

// Snapshot adds the copy of a stack. It copies s, and knows a list of mappings
// again by its first element. The error is that of an earlier write.
func (w *Writer) Snapshot(s *Snapshot) error {
	if w.closed {
		return ErrClosed
	}
	if len(s.Regs) > maxSnapshotRegs {
		return fmt.Errorf("append snapshot: %w: %d registers", ErrLimit, len(s.Regs))
	}
	t := &w.snapshots
	if len(s.Maps) >= maxBlockMaps {
		return fmt.Errorf("append snapshot: %w: %d mappings", ErrLimit, len(s.Maps))
	}
	if t.some+len(s.Maps) >= maxBlockMaps {
		_ = w.hand(nil) // the error is sticky and returned below
	}
	maps := t.listOf(s.Maps)
	b, flags := t.body[:0], uint64(0)
	if s.Inside {
		flags = 1
	}
	for _, v := range [...]uint64{uint64(s.Stack), maps, flags, s.PC, s.SP, s.FP, s.LR, uint64(len(s.Regs))} {
		b = binary.AppendUvarint(b, v)
	}
	for _, v := range s.Regs {
		b = binary.AppendUvarint(b, v)
	}
	t.body = append(b, s.Memory...)
	t.add(recordSnapshot)
	for _, p := range s.Rest {
		t.body = append(binary.AppendUvarint(t.body[:0], p.At), p.Memory...)
		t.add(recordRest)
	}
	if len(t.fresh) > maxFreshSnapshots {
		return w.hand(nil)
	}
	return w.err()
}

// add puts the body behind the others.
func (t *snapshotRows) add(tag byte) {
	t.fresh = append(t.fresh, tag)
	t.fresh = binary.AppendUvarint(t.fresh, uint64(len(t.body)))
	t.fresh = append(t.fresh, t.body...)
}

// listOf is the number of a list of mappings in the present block.
func (t *snapshotRows) listOf(maps []CodeMapping) uint64 {
	var key *CodeMapping
	if len(maps) > 0 {
		key = &maps[0]
	}
	if n, ok := t.maps[key]; ok {
		return n
	}
	if t.maps == nil {
		t.maps = map[*CodeMapping]uint64{}
	}
	n := uint64(len(t.maps))
	t.maps[key] = n
	b, end := t.body[:0], uint64(0)
	for _, m := range maps {
		for _, v := range [...]uint64{uint64(m.Module), m.Start - end, m.End - m.Start, m.Offset} {
			b = binary.AppendUvarint(b, v)
		}
		end = m.End
	}
	t.body, t.some = b, t.some+len(maps)+1
	t.add(recordMaps)
	return n
}

// take returns the payload of a block, nil if there is nothing to write.
func (t *snapshotRows) take(dst []byte) []byte {
	dst = append(dst, t.fresh...)
	t.fresh, t.maps, t.some = t.fresh[:0], nil, 0
	return dst
}

// Snapshots yields the copies of stacks that the capture holds, in file order. One
// is valid until the next is asked for. A damaged block is yielded as a
// *[CorruptError], and the iteration goes on.
func (r *Reader) Snapshots() iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		var bufs buffers
		for i := range r.blocks {
			b := &r.blocks[i]
			if b.Type != BlockSnapshots {
				continue
			}
			payload, err := r.payload.read(b, &bufs)
			more := true
			if err == nil {
				more, err = decodeSnapshots(payload, func(s *Snapshot) bool { return yield(s, nil) })
			}
			if err != nil {
				more = yield(nil, r.damaged(b, err))
			}
			if !more {
				return
			}
		}
	}
}

// SnapshotBytes returns how many bytes of the file, and how many without
// compression, are copies of stacks.
func (r *Reader) SnapshotBytes() (stored, raw int64) {
	for i := range r.blocks {
		if b := &r.blocks[i]; b.Type == BlockSnapshots {
			stored, raw = stored+b.End()-b.Offset, raw+int64(b.RawLen)
		}
	}
	return stored, raw
}

// decodeSnapshots yields the snapshots of a block until it is told to stop. What
// comes after the first error is not looked at.
func decodeSnapshots(payload []byte, yield func(*Snapshot) bool) (more bool, err error) {
	c := cursor{b: payload}
	var lists [][]CodeMapping
	room := maxBlockMaps
	var last *Snapshot // whose rest may come
	tell := func() bool {
		s := last
		last = nil
		return s == nil || yield(s)
	}
	for len(c.b) > 0 {
		tag := c.byte()
		body := cursor{b: c.bytes(c.count(maxRawLen))}
		if c.err != nil {
			return tell(), fmt.Errorf("record of a snapshot: %w", c.err)
		}
		if tag == recordRest && last != nil {
			at := body.uvarint()
			if len(last.Rest) == maxSnapshotParts {
				return true, fmt.Errorf("%w: too many parts of a snapshot", ErrLimit)
			}
			if body.err != nil {
				return true, fmt.Errorf("rest of a snapshot: %w", body.err)
			}
			last.Rest = append(last.Rest, SnapshotPart{at, body.b})
			continue
		}
		if !tell() {
			return false, nil
		}
		switch tag {
		case recordMaps:
			if room <= 0 {
				return true, fmt.Errorf("%w: too many mappings", ErrLimit)
			}
			list, err := decodeMaps(&body, room)
			if err != nil {
				return true, fmt.Errorf("mappings of a snapshot: %w", err)
			}
			room -= len(list) + 1
			lists = append(lists, list)
		case recordSnapshot:
			s, err := decodeSnapshot(&body, lists)
			if err != nil {
				return true, fmt.Errorf("snapshot: %w", err)
			}
			last = &s
		}
	}
	return tell(), nil
}

// decodeMaps reads a list of at most room mappings.
func decodeMaps(c *cursor, room int) ([]CodeMapping, error) {
	const least = 4 // bytes that a mapping takes
	list := make([]CodeMapping, 0, min(len(c.b)/least, 1<<8))
	for end := uint64(0); len(c.b) > 0; {
		if len(list) >= room {
			return nil, fmt.Errorf("%w: more than %d mappings in a block", ErrLimit, maxBlockMaps)
		}
		m := CodeMapping{Module: ModuleID(c.count(maxRows)), Start: end + c.uvarint()}
		m.End = m.Start + c.uvarint()
		m.Offset = c.uvarint()
		if c.err != nil {
			return nil, c.err
		}
		if m.Start < end || m.End < m.Start {
			return nil, fmt.Errorf("%w: mapping from %#x to %#x after %#x", ErrMalformed, m.Start, m.End, end)
		}
		end = m.End
		list = append(list, m)
	}
	return list, nil
}

func decodeSnapshot(c *cursor, lists [][]CodeMapping) (s Snapshot, err error) {
	s.Stack = StackID(c.count(maxRows))
	n := c.uvarint()
	s.Inside = c.uvarint()&1 != 0
	s.PC, s.SP, s.FP, s.LR = c.uvarint(), c.uvarint(), c.uvarint(), c.uvarint()
	s.Regs = make([]uint64, c.count(maxSnapshotRegs))
	for i := range s.Regs {
		s.Regs[i] = c.uvarint()
	}
	if c.err != nil {
		return s, c.err
	}
	if n >= uint64(len(lists)) {
		return s, fmt.Errorf("%w: list %d of %d of mappings", ErrMalformed, n, len(lists))
	}
	s.Maps, s.Memory = lists[n], c.b
	return s, nil
}
