package format

import (
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
	return b.resolve()
}

func (b *Batch) reset(n int) {
	for k := range b.Cols {
		b.Cols[k] = b.Cols[k][:0]
		b.escapes[k], b.times[k] = nil, nil
	}
	b.rowCount, b.birthKind, b.freedKind = [256]uint32{}, [256]int8{}, [256]int8{}
	b.Kind, b.Row, b.Time, b.Task = b.Kind[:0], b.Row[:0], b.Time[:0], b.Task[:0]
	b.births, b.displaced, b.hasPlace, b.place = b.births[:0], nil, false, transNone
	if cap(b.arena) < b.need { // what the block before took
		b.arena = make([]uint64, 0, b.need)
	}
	b.arena, b.need = b.arena[:0], 0
	b.freed = slices.Grow(b.freed[:0], n)[:n]
	b.fate = slices.Grow(b.fate[:0], n)[:n]
	clear(b.freed)
	clear(b.fate)
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

func (b *Batch) common(field, enc byte, rows int, body []byte) error {
	if field > fieldDisplaced {
		return nil
	}
	if rows != b.Info.Events && field != fieldDisplaced {
		return fmt.Errorf("%w: %d rows for %d events", ErrMalformed, rows, b.Info.Events)
	}
	vals := b.alloc(rows)
	if err := decodeColumn(vals, enc, body); err != nil {
		return err
	}
	switch field {
	case fieldKind:
		b.Kind, b.Row = b.Kind[:0], b.Row[:0]
		for _, v := range vals {
			if v > 255 {
				return fmt.Errorf("%w: kind %d", ErrMalformed, v)
			}
			b.Kind = append(b.Kind, Kind(v))
			b.Row = append(b.Row, b.rowCount[v])
			b.rowCount[v]++
		}
	case fieldTask:
		b.Task = b.Task[:0]
		for _, v := range vals {
			b.Task = append(b.Task, TaskID(v))
		}
	case fieldDisplaced:
		b.displaced = vals
	}
	return nil
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
		b.escapes[kind] = b.alloc(rows)
		return decodeColumn(b.escapes[kind], enc, body)
	}
	if rows != int(b.rowCount[kind]) {
		return fmt.Errorf("%w: %d rows for %d events", ErrMalformed, rows, b.rowCount[kind])
	}
	if field == fieldTime && b.times[kind] == nil {
		b.times[kind] = b.alloc(rows)
		return decodeColumn(b.times[kind], enc, body)
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
	vals := b.alloc(rows)
	if err := decodeColumn(vals, enc, body); err != nil {
		return err
	}
	b.Cols[kind][field] = vals
	switch typ {
	case TypeBlock:
		b.birthKind[kind] = int8(field) + 1
		return b.placed(enc & transMask)
	case TypeFreed:
		b.freedKind[kind] = int8(field) + 1
	}
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

// resolve turns the references of deaths, and the codes of births, into the
// addresses that they stand for.
func (b *Batch) resolve() error {
	var next [256]int // of the escapes of each kind
	p := placement{reuse: &b.reuse, addrs: b.birthAddrs[:0], sizes: b.birthSizes[:0]}
	births := b.births[:0]
	for i, k := range b.Kind {
		freed, birth := b.freedKind[k], b.birthKind[k]
		if freed|birth == 0 {
			continue
		}
		row := b.Row[i]
		p.task = b.Task[i]
		var died, back uint64
		if freed != 0 {
			v := &b.Cols[k][freed-1][row]
			switch back = *v; {
			case back == 0:
				if next[k] == len(b.escapes[k]) {
					return fmt.Errorf("%w: event %d lacks its address", ErrMalformed, i)
				}
				died = b.escapes[k][next[k]]
				next[k]++
			case back > uint64(len(births)):
				return fmt.Errorf("%w: event %d ends a birth before the block", ErrMalformed, i)
			default:
				at := uint64(len(births)) - back
				died = p.addrs[at]
				b.freed[i] = births[at] + 1
				b.fate[births[at]] |= fateConsumed
			}
			*v = died
		}
		if birth == 0 {
			p.died(back)
			continue
		}
		if err := b.born(&p, k, row, died, back); err != nil {
			return err
		}
		births = append(births, uint32(i))
	}
	b.births, b.birthAddrs, b.birthSizes = births, p.addrs, p.sizes
	return b.displacedBirths(b.displaced)
}

// born decodes the address of a birth.
func (b *Batch) born(p *placement, k Kind, row uint32, died, back uint64) (err error) {
	f := int(b.birthKind[k])
	v, size := &b.Cols[k][f-1][row], uint64(0)
	if cols := b.Cols[k]; f < len(cols) && cols[f] != nil {
		size = cols[f][row]
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
