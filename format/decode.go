package format

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// decode fills b from the payload of its block.
func (b *Batch) decode(payload []byte) error {
	n := b.Info.Events
	b.reset(n)
	c := cursor{b: payload}
	for len(c.b) > 0 {
		kind, field, typ, enc := c.byte(), c.byte(), FieldType(c.byte()), c.byte()
		rows := c.count(n)
		body := c.bytes(c.count(maxRawLen))
		if c.err != nil {
			return fmt.Errorf("column header: %w", c.err)
		}
		var err error
		if Kind(kind) == fieldCommon {
			err = b.common(field, enc, rows, body)
		} else {
			err = b.column(kind, field, typ, enc, rows, body)
		}
		if err != nil && !errors.Is(err, errUnknown) {
			return fmt.Errorf("column %d of kind %d: %w", field, kind, err)
		}
	}
	if len(b.Kind) != n || len(b.Task) != n {
		return fmt.Errorf("%w: a common column is missing", ErrMalformed)
	}
	if err := b.joinTimes(); err != nil {
		return err
	}
	b.fillMissing()
	return b.resolve()
}

func (b *Batch) reset(n int) {
	for k := range b.Cols {
		b.Cols[k] = b.Cols[k][:0]
		b.escapes[k], b.times[k] = nil, nil
	}
	b.rowCount, b.birthKind, b.freedKind, b.dataKind = [256]uint32{}, [256]int8{}, [256]int8{}, [256]int8{}
	b.Kind, b.Row, b.Time, b.Task = b.Kind[:0], b.Row[:0], b.Time[:0], nil
	b.births, b.displaced, b.hasPlace, b.place = b.births[:0], nil, false, transNone
	if cap(b.arena) < b.need { // what the block before took
		b.arena = make([]uint64, 0, b.need)
	}
	b.arena, b.need = b.arena[:0], 0
	b.freed = slices.Grow(b.freed[:0], n)[:n] // resolve fills both
	b.fate = slices.Grow(b.fate[:0], n)[:n]
}

// alloc returns n values that live as long as the decoded block.
func (b *Batch) alloc(n int) []uint64 {
	b.need += n
	if cap(b.arena)-len(b.arena) < n {
		b.arena = make([]uint64, 0, max(n, 4*b.Info.Events))
	}
	at := len(b.arena)
	b.arena = b.arena[:at+n]
	return b.arena[at : at+n : at+n]
}

// constantColumn returns the value of a column that has the same in each row, and
// that nothing turns into another.
func constantColumn(typ FieldType, enc byte, body []byte) (uint64, bool) {
	if enc != encConst|transNone {
		return 0, false
	}
	switch typ {
	case TypeBlock, TypeFreed, TypeStack, TypeBytes:
		return 0, false
	}
	v, n := uvarint(body)
	return v, n != 0 && n == len(body)
}

// A constant is a value many times over, kept from block to block: columns that
// have one value share its memory, and nobody writes there. The first is 0, which
// stands in for columns that the file lacks.
type constant struct {
	value uint64
	rows  []uint64
}

const maxConstants = 8

// constant returns n rows of a value.
func (b *Batch) constant(v uint64, n int) []uint64 {
	i := slices.IndexFunc(b.constants, func(c constant) bool { return c.value == v })
	if i < 0 {
		if len(b.constants) == 0 {
			b.constants = append(b.constants, constant{})
		}
		if i = len(b.constants); v == 0 {
			i = 0
		} else if i < maxConstants {
			b.constants = append(b.constants, constant{value: v})
		} else {
			return repeat(b.alloc(n), v)
		}
	}
	c := &b.constants[i]
	if len(c.rows) < n {
		c.rows = repeat(make([]uint64, b.Info.Events), v)
	}
	return c.rows[:n:n]
}

func repeat(rows []uint64, v uint64) []uint64 {
	for i := range rows {
		rows[i] = v
	}
	return rows
}

func (b *Batch) common(field, enc byte, rows int, body []byte) error {
	if field > fieldDisplaced {
		return nil
	}
	if rows != b.Info.Events && field != fieldDisplaced {
		return fmt.Errorf("%w: %d rows for %d events", ErrMalformed, rows, b.Info.Events)
	}
	if field == fieldKind && len(b.Kind) != 0 {
		return fmt.Errorf("%w: twice", ErrMalformed)
	}
	switch field {
	case fieldKind:
		return b.kinds(rows, enc, body)
	case fieldTask:
		return b.tasks(rows, enc, body)
	}
	return b.extra(&b.displaced, rows, enc, body)
}

// kinds decodes the kind of each event, and numbers those of each kind.
func (b *Batch) kinds(rows int, enc byte, body []byte) error {
	b.Kind = slices.Grow(b.Kind[:0], rows)[:rows]
	if enc == encPlanes|transNone && len(body) == 1+rows && body[0] == 1 && bytes.IndexByte(body, 255) < 0 {
		for i, v := range body[1:] { // as they mostly are: there is no need to make numbers of the bytes
			b.Kind[i] = Kind(v)
		}
	} else if vals, err := b.numbers(rows, enc, body); err != nil {
		b.Kind = b.Kind[:0]
		return err
	} else {
		for i, v := range vals {
			if v > 255 {
				return fmt.Errorf("%w: kind %d", ErrMalformed, v)
			}
			b.Kind[i] = Kind(v)
		}
	}
	b.Row = slices.Grow(b.Row[:0], rows)[:rows]
	for i, k := range b.Kind {
		b.Row[i] = b.rowCount[k]
		b.rowCount[k]++
	}
	return nil
}

// tasks decodes the task of each event. Where all have the same, what the block
// before had may do.
func (b *Batch) tasks(rows int, enc byte, body []byte) error {
	if v, ok := constantColumn(TypeUint, enc, body); ok {
		if len(b.sameTask) < rows || rows > 0 && b.sameTask[0] != TaskID(v) {
			b.sameTask = slices.Grow(b.sameTask[:0], rows)[:rows]
			for i := range b.sameTask {
				b.sameTask[i] = TaskID(v)
			}
		}
		b.Task = b.sameTask[:rows]
		return nil
	}
	vals, err := b.numbers(rows, enc, body)
	if err != nil {
		return err
	}
	b.manyTasks = slices.Grow(b.manyTasks[:0], rows)[:rows]
	b.Task = b.manyTasks
	for i, v := range vals {
		b.Task[i] = TaskID(v)
	}
	return nil
}

// numbers decodes a column that is valid until the next one is.
func (b *Batch) numbers(rows int, enc byte, body []byte) ([]uint64, error) {
	b.scratch = slices.Grow(b.scratch[:0], rows)[:rows]
	return b.scratch, decodeColumn(b.scratch, enc, body)
}

// fillMissing gives the kinds that this package knows zeros for those of their
// fields that the file does not have, or has in an encoding of the future.
func (b *Batch) fillMissing() {
	for k := range Kinds {
		n := int(b.rowCount[k])
		if n == 0 {
			continue
		}
		for len(b.Cols[k]) < len(Kinds[k].Fields) {
			b.Cols[k] = append(b.Cols[k], nil)
		}
		for f, col := range b.Cols[k] {
			if col == nil {
				b.Cols[k][f] = b.constant(0, n)
			}
		}
	}
}

// joinTimes makes the times out of those of each kind.
func (b *Batch) joinTimes() error {
	for k, n := range b.rowCount {
		if int(n) != len(b.times[k]) {
			return fmt.Errorf("%w: kind %d has %d times for %d events", ErrMalformed, k, len(b.times[k]), n)
		}
	}
	t := int64(0)
	b.Time = slices.Grow(b.Time[:0], len(b.Kind))[:len(b.Kind)]
	for i, k := range b.Kind {
		t += unzigzag(b.times[k][b.Row[i]])
		b.Time[i] = t
	}
	return nil
}

// displacedBirths marks the births that took an address that was live.
func (b *Batch) displacedBirths(vals []uint64) error {
	for _, v := range vals {
		if v >= uint64(len(b.births)) {
			return fmt.Errorf("%w: displaced birth %d of %d", ErrMalformed, v, len(b.births))
		}
		b.fate[b.births[v]] |= fateDisplaced
	}
	return nil
}

func (b *Batch) column(kind, field byte, typ FieldType, enc byte, rows int, body []byte) error {
	if len(b.Kind) != b.Info.Events {
		return fmt.Errorf("%w: before the column of kinds", ErrMalformed)
	}
	if field >= fieldEscape {
		if b.escapes[kind] != nil || rows > int(b.rowCount[kind]) {
			return fmt.Errorf("%w: addresses twice or too many", ErrMalformed)
		}
		return b.extra(&b.escapes[kind], rows, enc, body)
	}
	if rows != int(b.rowCount[kind]) {
		return fmt.Errorf("%w: %d rows for %d events", ErrMalformed, rows, b.rowCount[kind])
	}
	if field == fieldTime && b.times[kind] == nil {
		return b.extra(&b.times[kind], rows, enc, body)
	}
	if field >= MaxFields {
		return nil
	}
	for len(b.Cols[kind]) <= int(field) {
		b.Cols[kind] = append(b.Cols[kind], nil)
	}
	if b.Cols[kind][field] != nil {
		return fmt.Errorf("%w: twice", ErrMalformed)
	}
	if v, ok := constantColumn(typ, enc, body); ok {
		b.Cols[kind][field] = b.constant(v, rows)
		return nil
	}
	vals := b.alloc(rows)
	if typ == TypeBytes && enc == encBytes|transNone {
		if b.dataKind[kind] != 0 {
			return fmt.Errorf("%w: a second column of bytes", errUnknown)
		}
		data, err := decodeBytes(vals, body)
		if err != nil {
			return err
		}
		b.setData(kind, field, vals, data)
	} else if err := decodeColumn(vals, enc, body); err != nil {
		return err
	}
	b.Cols[kind][field] = vals
	switch typ {
	case TypeStack:
		whole(b.wholeOf, vals)
	case TypeBlock:
		b.birthKind[kind] = int8(field) + 1
		return b.placed(enc & transMask)
	case TypeFreed:
		b.freedKind[kind] = int8(field) + 1
	}
	return nil
}

// extra decodes a column that is none of the kind's fields. One of an encoding that
// is not known is as if it were not there: the arena has values of older blocks.
func (b *Batch) extra(to *[]uint64, rows int, enc byte, body []byte) error {
	vals := b.alloc(rows)
	if err := decodeColumn(vals, enc, body); err != nil {
		return err
	}
	*to = vals
	return nil
}

// placed notes how the addresses of births are stored: all alike.
func (b *Batch) placed(trans byte) error {
	shift := uint(0)
	switch trans {
	case transReuse16:
		shift = 4
	case transReuse8:
		shift = 3
	case transReuse1:
	default:
		trans = transNone
	}
	if b.hasPlace && b.place != trans {
		return fmt.Errorf("%w: births are stored in two ways", ErrMalformed)
	}
	b.hasPlace, b.place = true, trans
	b.reuse.reset(shift)
	return nil
}

// heapColumns are the columns of a kind that tell of births and deaths.
type heapColumns struct {
	freed   []uint64 // references, then addresses
	escapes []uint64 // addresses of the references that are 0
	escaped int      // how many of them are used up
	birth   []uint64 // codes, then addresses
	size    []uint64 // of the birth
}

// gather finds the columns of births and deaths of each kind.
func (b *Batch) gather() {
	b.heap = [256]heapColumns{}
	for k, n := range b.rowCount {
		if n == 0 || b.freedKind[k]|b.birthKind[k] == 0 {
			continue
		}
		h, cols := &b.heap[k], b.Cols[k]
		h.escapes = b.escapes[k]
		if f := int(b.freedKind[k]); f != 0 {
			h.freed = cols[f-1]
		}
		if f := int(b.birthKind[k]); f != 0 {
			h.birth = cols[f-1]
			if f < len(cols) {
				h.size = cols[f]
			}
		}
	}
}

// resolve turns the references of deaths, and the codes of births, into the
// addresses that they stand for.
func (b *Batch) resolve() error {
	b.gather()
	p := placement{reuse: &b.reuse, addrs: b.birthAddrs[:0], sizes: b.birthSizes[:0]}
	births := b.births[:0]
	for i, k := range b.Kind {
		h := &b.heap[k]
		row := b.Row[i]
		b.freed[i], b.fate[i] = 0, 0
		var died, back uint64
		if h.freed != nil {
			v := &h.freed[row]
			switch back = *v; {
			case back == 0:
				if h.escaped == len(h.escapes) {
					return fmt.Errorf("%w: event %d lacks its address", ErrMalformed, i)
				}
				died = h.escapes[h.escaped]
				h.escaped++
			case back > uint64(len(births)):
				return fmt.Errorf("%w: event %d ends a birth before the block", ErrMalformed, i)
			default:
				at := uint64(len(births)) - back
				died = p.addrs[at]
				b.freed[i] = births[at] + 1
				b.fate[births[at]] |= fateConsumed
			}
			*v = died
			if h.birth == nil {
				if back != 0 {
					p.task = b.Task[i]
					p.died(back)
				}
				continue
			}
		} else if h.birth == nil {
			continue
		}
		p.task = b.Task[i]
		if err := b.born(&p, h, row, died, back); err != nil {
			return err
		}
		births = append(births, uint32(i))
	}
	b.births, b.birthAddrs, b.birthSizes = births, p.addrs, p.sizes
	return b.displacedBirths(b.displaced)
}

// born decodes the address of a birth.
func (b *Batch) born(p *placement, h *heapColumns, row uint32, died, back uint64) (err error) {
	v, size := &h.birth[row], uint64(0)
	if h.size != nil {
		size = h.size[row]
	}
	switch {
	case b.place == transNone:
	case *v == codeSame:
		*v = died
	default:
		p.died(back)
		if *v, err = p.addr(p.task, size, *v); err != nil {
			return err
		}
	}
	p.born(*v, size)
	return nil
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
