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
	data    [][]byte     // [kind]: bytes of all rows
	bytes   int          // in data

	births    []uint32 // events that gave birth
	displaced []uint32 // births, by their number, at an address that was live

	// Scratch of encode.
	wide                   []uint64
	timesOf                [][]uint64
	birthAddrs, birthSizes []uint64

	tables []byte // tables section to be written before this block
	flush  chan struct{}
}

func newBuilder() *builder {
	b := &builder{cols: make([][][]uint64, len(Kinds)), escapes: make([][]uint64, len(Kinds)),
		timesOf: make([][]uint64, len(Kinds)), data: make([][]byte, len(Kinds))}
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
		b.escapes[k], b.timesOf[k], b.data[k] = b.escapes[k][:0], b.timesOf[k][:0], b.data[k][:0]
	}
	b.bytes = 0
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
	if sh.data >= 0 {
		col := cols[sh.data]
		col[len(col)-1] = uint64(len(e.Data))
		b.data[e.Kind] = append(b.data[e.Kind], e.Data...)
		b.bytes += len(e.Data)
	}
	if sh.freed >= 0 {
		b.kill(e, sh, live)
	}
	if sh.birth >= 0 {
		if addr := e.V[sh.birth]; live != nil && addr != 0 {
			live.bear(b.number, e.Time)
			if live.put(addr, b.number, uint32(len(b.births))) {
				b.displaced = append(b.displaced, uint32(len(b.births)))
			}
		}
		b.births = append(b.births, uint32(len(b.kinds)))
	}
	b.kinds = append(b.kinds, byte(e.Kind))
	b.times = append(b.times, e.Time)
	b.tasks = append(b.tasks, e.Task)
}

// full reports whether data must go to another block: a block is bounded by
// its events, and most of that is left to the data.
func (b *builder) full(data []byte) bool {
	return len(data) > 0 && len(b.kinds) > 0 && b.bytes+len(data) > maxData+maxEventRaw/2*len(b.kinds)
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
				// The time of that birth is gone. Unless it was surely before
				// this death the block stays: the next birth here is then
				// marked as displacing it, and readers look closer.
				if at >= live.prior {
					live.remove(i)
				}
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

// encode turns the events into the columns of the payload. sizes gets the
// bytes that each kind takes for itself.
func (b *builder) encode(enc *columnEncoder, sizes *[256]int) {
	enc.dst, enc.cuts = enc.dst[:0], enc.cuts[:0]
	wide := b.wide[:0]
	for _, k := range b.kinds {
		wide = append(wide, uint64(k))
	}
	enc.append(fieldCommon, fieldKind, TypeUint, transNone, wide)
	wide = wide[:0]
	for _, t := range b.tasks {
		wide = append(wide, uint64(t))
	}
	enc.append(fieldCommon, fieldTask, TypeUint, transNone, wide)
	wide = wide[:0]
	for _, d := range b.displaced {
		wide = append(wide, uint64(d))
	}
	enc.append(fieldCommon, fieldDisplaced, TypeDelta, transDelta, wide)
	b.wide = wide
	b.splitTimes()
	place := b.place(&enc.reuse)
	for k := range b.cols {
		start := len(enc.dst)
		enc.append(Kind(k), fieldTime, TypeInt, transNone, b.timesOf[k])
		for f, col := range b.cols[k] {
			typ := Kinds[k].Fields[f].Type
			trans := transformOf(typ, col)
			switch {
			case typ == TypeBytes:
				enc.appendBytes(Kind(k), byte(f), col, b.data[k])
				continue
			case typ == TypeBlock && place != transNone:
				trans = place
			case typ == TypeFreed:
				esc := b.escapes[k]
				enc.append(Kind(k), byte(f)|fieldEscape, TypeAddr, transformOf(TypeAddr, esc), esc)
			}
			enc.append(Kind(k), byte(f), typ, trans, col)
		}
		sizes[k] += len(enc.dst) - start
	}
}

// splitTimes gives each kind its times, as differences from the event before.
func (b *builder) splitTimes() {
	prev := int64(0)
	for i, t := range b.times {
		k := b.kinds[i]
		b.timesOf[k] = append(b.timesOf[k], zigzag(t-prev))
		prev = t
	}
}

// place replaces the addresses of births by codes of the reuse prediction and
// returns the transform that says so, or transNone when an address is too
// large for that.
func (b *builder) place(r *reuse) byte {
	var all uint64
	for k := range b.cols {
		if f := shapes[k].birth; f >= 0 {
			for _, v := range b.cols[k][f] {
				all |= v
			}
		}
	}
	trans, shift := byte(transReuse1), uint(0)
	switch {
	case all >= maxReuseAddr:
		return transNone
	case all&15 == 0:
		trans, shift = transReuse16, 4
	case all&7 == 0:
		trans, shift = transReuse8, 3
	}
	r.reset(shift)
	p := placement{reuse: r, addrs: b.birthAddrs[:0], sizes: b.birthSizes[:0]}
	var row, escape [256]int
	for i, k := range b.kinds {
		sh := &shapes[k]
		at := row[k]
		row[k]++
		p.task = b.tasks[i]
		var died, back uint64
		if sh.freed >= 0 {
			if back = b.cols[k][sh.freed][at]; back == 0 {
				died = b.escapes[k][escape[k]]
				escape[k]++
			} else {
				died = p.addrs[uint64(len(p.addrs))-back]
			}
		}
		if sh.birth < 0 {
			p.died(back)
			continue
		}
		cell := &b.cols[k][sh.birth][at]
		addr, size := *cell, b.sizeOf(Kind(k), at)
		if died == addr && sh.freed >= 0 {
			*cell = codeSame
		} else {
			p.died(back)
			*cell = r.code(p.task, size, addr)
		}
		p.born(addr, size)
	}
	b.birthAddrs, b.birthSizes = p.addrs, p.sizes
	return trans
}

// sizeOf is the field after that of the birth, which is the size by rule.
func (b *builder) sizeOf(k Kind, row int) uint64 {
	if f := int(shapes[k].birth) + 1; f < len(b.cols[k]) {
		return b.cols[k][f][row]
	}
	return 0
}

// A placement is the state of the reuse prediction on its way through a block.
type placement struct {
	*reuse
	task  TaskID
	addrs []uint64 // of each birth
	sizes []uint64
}

// died puts the block that was born back births ago on its list.
func (p *placement) died(back uint64) {
	if back != 0 {
		i := uint64(len(p.addrs)) - back
		p.freed(p.task, p.sizes[i], p.addrs[i])
	}
}

func (p *placement) born(addr, size uint64) {
	p.addrs, p.sizes = append(p.addrs, addr), append(p.sizes, size)
}
