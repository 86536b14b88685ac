package format

import (
	"math"
	"slices"
)

// A builder gathers the events of one block as columns. The Writer fills it,
// its compressor turns it into bytes.
//
// Whatever depends on the order of the events is done when they are appended,
// while they are in the processor's cache: times become differences, deaths
// references and births codes. Encoding then goes through each column alone.
type builder struct {
	ordinal uint64 // events before this block
	number  uint32 // of events blocks
	room    int    // events that it can hold
	kinds   []byte
	tasks   []TaskID
	of      []kindColumns // by kind
	bytes   int           // in the data of all kinds
	lone    int           // values of events that refer to no others

	first, last int64 // least and greatest time, ns
	now         int64 // time of the latest event, ns
	oneTask     bool  // all events have the same
	place       byte  // transform of the births

	displaced []uint32 // births, by their number, at an address that was live

	wide []uint64 // scratch of encode

	tables    []byte // tables section to be written before this block
	snapshots []byte // and behind that, the payload of a block of them
	flush     chan struct{}
}

// kindColumns are the columns of the events of one kind.
type kindColumns struct {
	times   []uint64   // zigzag of the ns since the event before, of whatever kind
	fields  [][]uint64 // by field; the address of a birth as the code of its place
	escapes []uint64   // addresses of the rows whose reference is 0
	data    []byte     // bytes of all rows
}

// fewRows is how many rows a kind has room for at first. One that has more in
// a block gets room for a whole block of them: to double it time and again would
// touch fresh memory, and copy, each time. What is not used is never touched.
const fewRows = 256

func (c *kindColumns) grow(room int) {
	if cap(c.times) == 0 {
		room = min(room, fewRows)
	}
	n := len(c.times)
	c.times = append(make([]uint64, 0, room), c.times...)
	for f, col := range c.fields {
		c.fields[f] = append(make([]uint64, 0, room), col[:n]...)
	}
}

// newBuilder makes one for blocks of at most room events.
func newBuilder(room int) *builder {
	b := &builder{
		room: room, of: make([]kindColumns, len(Kinds)),
		kinds: make([]byte, 0, room), tasks: make([]TaskID, 0, room),
	}
	for k := range b.of {
		b.of[k].fields = make([][]uint64, shapes[k].fields)
	}
	return b
}

func (b *builder) reset() {
	b.kinds, b.tasks = b.kinds[:0], b.tasks[:0]
	for k := range b.of {
		c := &b.of[k]
		for f := range c.fields {
			c.fields[f] = c.fields[f][:0]
		}
		c.times, c.escapes, c.data = c.times[:0], c.escapes[:0], c.data[:0]
	}
	b.first, b.last, b.now = math.MaxInt64, math.MinInt64, 0
	b.bytes, b.lone, b.oneTask = 0, 0, true
	b.displaced = b.displaced[:0]
	b.tables, b.snapshots, b.flush = b.tables[:0], b.snapshots[:0], nil
}

// append adds e. live is the table of e's address space, nil when unknown.
func (b *builder) append(e *Event, p *pairing, live *liveBlocks) {
	sh, c := &shapes[e.Kind], &b.of[e.Kind]
	n := len(c.times)
	if n == cap(c.times) {
		c.grow(b.room)
	}
	for f := range c.fields {
		col := c.fields[f][:n+1]
		col[n] = e.V[f]
		c.fields[f] = col
	}
	if sh.data >= 0 {
		c.fields[sh.data][n] = uint64(len(e.Data))
		c.data = append(c.data, e.Data...)
		b.bytes += len(e.Data)
	}
	c.times = append(c.times, zigzag(e.Time-b.now)) // there is room
	b.now = e.Time
	b.first, b.last = min(b.first, e.Time), max(b.last, e.Time)
	if sh.freed >= 0 || sh.birth >= 0 {
		b.pair(e, sh, p, live)
	} else {
		b.lone += 1 + len(c.fields)
	}
	if len(b.tasks) > 0 && e.Task != b.tasks[0] {
		b.oneTask = false
	}
	b.kinds = append(b.kinds, byte(e.Kind))
	b.tasks = append(b.tasks, e.Task)
}

// pair turns the address of a death into a reference to its birth, and that of
// a birth into a code.
func (b *builder) pair(e *Event, sh *shape, p *pairing, live *liveBlocks) {
	c := &b.of[e.Kind]
	var back uint64
	if sh.freed >= 0 {
		col := c.fields[sh.freed]
		addr := e.V[sh.freed]
		back = p.kill(e, addr, sh, b.number, live)
		if col[len(col)-1] = back; back == 0 {
			c.escapes = append(c.escapes, addr)
		}
	}
	if sh.birth < 0 {
		p.died(e.Task, back)
		return
	}
	addr, size := e.V[sh.birth], uint64(0)
	if f := int(sh.birth) + 1; f < len(c.fields) {
		size = e.V[f] // the field after that of the birth is the size by rule
	}
	code := uint64(codeSame)
	if sh.freed < 0 || e.V[sh.freed] != addr {
		p.died(e.Task, back)
		code = p.reuse.code(e.Task, size, addr)
	}
	col := c.fields[sh.birth]
	col[len(col)-1] = code
	if live != nil && addr != 0 {
		live.bear(b.number, e.Time)
		if live.put(addr, b.number, uint32(len(p.births))) {
			b.displaced = append(b.displaced, uint32(len(p.births)))
		}
	}
	p.born(addr, size, e.Time)
}

// seal ends the block: its births are all known, and with them the unit in
// which their addresses are told, or that one is too large for codes.
func (b *builder) seal(p *pairing) {
	switch {
	case p.bits >= maxReuseAddr:
		b.place = transNone
		births := p.births
		var row [256]int
		for _, k := range b.kinds {
			if f := shapes[k].birth; f >= 0 {
				b.of[k].fields[f][row[k]] = births[0].addr
				births = births[1:]
				row[k]++
			}
		}
	case p.bits&15 == 0:
		b.place = transReuse16
	case p.bits&7 == 0:
		b.place = transReuse8
	default:
		b.place = transReuse1
	}
}

// maxLone bounds the memory of a block whose events refer to no others, in values
// of 8 bytes: 17,000 events of TCP. A heap's blocks need be long, for a death is
// told by its birth within the block; others only have so much more memory that is
// touched for the first time, at 20 to 40 us a page on some virtual machines.
const maxLone = 3 << 16

// ends reports whether the block has as many events as it should.
func (b *builder) ends() bool { return len(b.kinds) >= b.room || b.lone >= maxLone }

// full reports whether data must go to another block: a block is bounded by
// its events, and most of that is left to the data.
func (b *builder) full(data []byte) bool {
	return len(data) > 0 && len(b.kinds) > 0 && b.bytes+len(data) > maxData+maxEventRaw/2*len(b.kinds)
}

// maxBlockTasks is how many tasks the index names for a block; of a block
// with more it says that any may be in it.
const maxBlockTasks = 16

// describe fills in what the block's header and index entry say of its events.
func (b *builder) describe(info *BlockInfo) {
	info.Events, info.EventsBefore = len(b.kinds), b.ordinal
	info.FirstTime, info.LastTime = b.first, b.last
	for k := range b.of {
		if len(b.of[k].times) > 0 {
			info.kindBits |= kindBit(Kind(k))
		}
	}
	info.Kinds = kindSetFromBits(info.kindBits)
	if b.oneTask {
		info.tasks = append(info.tasks, b.tasks[0])
		return
	}
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

// estimate is about as many bytes as the columns will take, or more: to come to
// their size by doubling would touch twice the memory.
func (b *builder) estimate() int {
	const most = 2 // bytes of a value, mostly
	values := len(b.kinds)
	for k := range b.of {
		values += len(b.of[k].times) * (1 + len(b.of[k].fields))
	}
	return most * values
}

// encode turns the events into the columns of the payload. sizes gets the
// bytes that each kind takes for itself.
func (b *builder) encode(enc *columnEncoder, sizes *[256]int) {
	enc.dst, enc.cuts = slices.Grow(enc.dst[:0], b.estimate()), enc.cuts[:0]
	enc.appendKinds(b.kinds)
	if b.oneTask {
		enc.appendConstant(fieldCommon, fieldTask, TypeUint, transNone, uint64(b.tasks[0]), len(b.tasks))
	} else {
		b.wide = widen(b.wide, b.tasks)
		enc.append(fieldCommon, fieldTask, TypeUint, transNone, b.wide)
	}
	b.wide = widen(b.wide, b.displaced)
	enc.append(fieldCommon, fieldDisplaced, TypeDelta, transDelta, b.wide)
	for k := range b.of {
		c, start := &b.of[k], len(enc.dst)
		enc.append(Kind(k), fieldTime, TypeInt, transNone, c.times)
		for f, col := range c.fields {
			typ := Kinds[k].Fields[f].Type
			switch {
			case typ == TypeBytes:
				enc.appendBytes(Kind(k), byte(f), col, c.data)
				continue
			case typ == TypeBlock && b.place != transNone:
				enc.append(Kind(k), byte(f), typ, b.place, inUnits(col, b.place))
				continue
			case typ == TypeFreed:
				enc.append(Kind(k), byte(f)|fieldEscape, TypeAddr, transformOf(TypeAddr, c.escapes), c.escapes)
			}
			enc.append(Kind(k), byte(f), typ, transformOf(typ, col), col)
		}
		sizes[k] += len(enc.dst) - start
	}
}

func widen[T ~uint32](dst []uint64, v []T) []uint64 {
	dst = dst[:0]
	for _, x := range v {
		dst = append(dst, uint64(x))
	}
	return dst
}

// inUnits turns the distances among the codes of births, which are in bytes,
// into those of the transform.
func inUnits(codes []uint64, place byte) []uint64 {
	var shift uint
	switch place {
	case transReuse16:
		shift = 4
	case transReuse8:
		shift = 3
	default:
		return codes
	}
	for i, c := range codes {
		if c >= codeFar {
			z := c - codeFar // 2d, or 2d-1 for -d
			codes[i] = codeFar + (z+z&1)>>shift - z&1
		}
	}
	return codes
}
