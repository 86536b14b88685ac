package format

import "slices"

// A builder gathers the events of one block as columns. The Writer fills it,
// its compressor turns it into bytes.
type builder struct {
	ordinal uint64 // events before this block
	number  uint32 // of events blocks
	kinds   []byte
	times   []int64
	tasks   []TaskID
	cols    [][][]uint64 // [kind][field][row]
	escapes [][]uint64   // [kind]: addresses of the rows whose reference is 0

	births    []uint32 // events that gave birth
	displaced []uint32 // births, by their number, at an address that was live

	tables []byte // tables section to be written before this block
	flush  chan struct{}
}

func newBuilder() *builder {
	b := &builder{cols: make([][][]uint64, len(Kinds)), escapes: make([][]uint64, len(Kinds))}
	for k := range b.cols {
		b.cols[k] = make([][]uint64, shapes[k].fields)
	}
	return b
}

func (b *builder) reset() {
	b.kinds, b.times, b.tasks = b.kinds[:0], b.times[:0], b.tasks[:0]
	for k := range b.cols {
		for f := range b.cols[k] {
			b.cols[k][f] = b.cols[k][f][:0]
		}
		b.escapes[k] = b.escapes[k][:0]
	}
	b.births, b.displaced = b.births[:0], b.displaced[:0]
	b.tables, b.flush = b.tables[:0], nil
}

// append adds e. live is the table of e's address space, nil when unknown.
func (b *builder) append(e *Event, live *liveBlocks) {
	sh := &shapes[e.Kind]
	cols := b.cols[e.Kind]
	for f := range cols {
		cols[f] = append(cols[f], e.V[f])
	}
	if sh.freed >= 0 {
		b.kill(e, sh, live)
	}
	if sh.birth >= 0 {
		if addr := e.V[sh.birth]; live != nil && addr != 0 && live.put(addr, b.number, uint32(len(b.births))) {
			b.displaced = append(b.displaced, uint32(len(b.births)))
		}
		b.births = append(b.births, uint32(len(b.kinds)))
	}
	b.kinds = append(b.kinds, byte(e.Kind))
	b.times = append(b.times, e.Time)
	b.tasks = append(b.tasks, e.Task)
}

// kill replaces the address that e frees by how many births ago it was born,
// or by 0 when that was in another block or is not known.
func (b *builder) kill(e *Event, sh *shape, live *liveBlocks) {
	col := b.cols[e.Kind][sh.freed]
	addr, at := e.V[sh.freed], e.Time
	if sh.duration >= 0 {
		at -= int64(e.V[sh.duration])
	}
	var back uint64
	if live != nil {
		if i := live.find(addr); i >= 0 {
			s := live.slots[i]
			switch {
			case s.block != b.number:
				live.remove(i)
			case b.times[b.births[s.birth]] <= at:
				back = uint64(len(b.births)) - uint64(s.birth)
				live.remove(i)
			}
			// Otherwise the block at this address was born after this death:
			// another thread got the address before this event was written.
		}
	}
	col[len(col)-1] = back
	if back == 0 {
		b.escapes[e.Kind] = append(b.escapes[e.Kind], addr)
	}
}

// maxBlockTasks is how many tasks the index names for a block; of a block
// with more it says that any may be in it.
const maxBlockTasks = 16

// describe fills in what the block's header and index entry say of its events.
func (b *builder) describe(info *BlockInfo) {
	info.Events, info.EventsBefore = len(b.kinds), b.ordinal
	info.FirstTime, info.LastTime = slices.Min(b.times), slices.Max(b.times)
	var seen [256]bool
	for _, k := range b.kinds {
		seen[k] = true
	}
	for k, s := range seen {
		if s {
			info.kindBits |= kindBit(Kind(k))
		}
	}
	info.Kinds = kindSetFromBits(info.kindBits)
	last := TaskID(1<<32 - 1)
	for _, t := range b.tasks {
		if t == last {
			continue
		}
		last = t
		if i, ok := slices.BinarySearch(info.tasks, t); !ok {
			if len(info.tasks) == maxBlockTasks {
				info.tasks = nil
				return
			}
			info.tasks = slices.Insert(info.tasks, i, t)
		}
	}
}

// encode appends the payload of the block.
func (b *builder) encode(dst []byte, enc *columnEncoder, sizes *[256]int) []byte {
	n := len(b.kinds)
	wide := make([]uint64, n)
	for i, k := range b.kinds {
		wide[i] = uint64(k)
	}
	dst = enc.append(dst, fieldCommon, fieldKind, TypeUint, wide)
	for i, t := range b.times {
		wide[i] = uint64(t)
	}
	dst = enc.append(dst, fieldCommon, fieldTime, TypeDelta, wide)
	for i, t := range b.tasks {
		wide[i] = uint64(t)
	}
	dst = enc.append(dst, fieldCommon, fieldTask, TypeUint, wide)
	wide = wide[:0]
	for _, d := range b.displaced {
		wide = append(wide, uint64(d))
	}
	dst = enc.append(dst, fieldCommon, fieldDisplaced, TypeDelta, wide)
	for k := range b.cols {
		start := len(dst)
		for f, col := range b.cols[k] {
			typ := Kinds[k].Fields[f].Type
			dst = enc.append(dst, byte(k), byte(f), typ, col)
			if typ == TypeFreed {
				dst = enc.append(dst, byte(k), byte(f)|fieldEscape, TypeAddr, b.escapes[k])
			}
		}
		sizes[k] += len(dst) - start
	}
	return dst
}
