package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// A column of an events block is a list of 64-bit values:
//
//	+----------+-----------+----------+--------------+----------------+------------------+-------+
//	| kind <1> | field <1> | type <1> | encoding <1> | rows <uvarint> | length <uvarint> | bytes |
//	+----------+-----------+----------+--------------+----------------+------------------+-------+
//
// Kind 0 holds the columns that all events have. The low half of the encoding
// says how numbers are stored, the high half how values became numbers.
const (
	encConst  = 1 // one uvarint that every row has
	encPlanes = 2 // width w <1>, then w planes of one byte per row, low byte first; rows whose
	//               top byte is 255 follow in full as uvarints
	encBytes = 3 // encoding of the lengths <1>, bytes that they take <uvarint>, lengths, then the bytes of all rows

	transNone    = 0 << 4 // the value
	transDelta   = 1 << 4 // zigzag of the difference from the row before; the first from 0
	transDelta16 = 2 << 4 // the same in units of 16
	transReuse16 = 3 << 4 // codes of the reuse prediction, in units of 16
	transReuse8  = 4 << 4 // the same in units of 8
	transReuse1  = 5 << 4 // the same in units of 1

	encMask   = 0x0f
	transMask = 0xf0
)

// Fields of kind 0, which all events have.
const (
	fieldKind      = 0 // of each event
	fieldTask      = 1 // of each event
	fieldDisplaced = 2 // births, by their number, whose address was still live
)

const fieldCommon Kind = 0 // the kind under which they are stored

// Fields that every kind has besides its own.
const (
	fieldTime   = 0x7f // ns since the event before in the block, of whatever kind (zigzag)
	fieldEscape = 0x80 // added to a TypeFreed field: addresses of the rows whose reference is 0
)

// A Column holds one field of the events of one kind, a value per row.
type Column []uint64

// columnEncoder turns columns into bytes. Its buffers live from block to block.
type columnEncoder struct {
	dst  []byte
	cuts []int // offsets in dst at which the statistics of the bytes change
	nums []uint64
	exc  []byte
	est  widthEstimate
}

// transformOf is how values of a type become numbers, where nothing better is
// known.
func transformOf(typ FieldType, vals []uint64) byte {
	switch typ {
	case TypeBlock, TypeAddr:
		var all uint64
		for _, v := range vals {
			all |= v
		}
		if all&15 == 0 {
			return transDelta16
		}
		return transDelta
	case TypeDelta, TypeInt:
		return transDelta
	}
	return transNone
}

// append adds a column. Values of transNone and the reuse transforms are
// numbers already.
func (c *columnEncoder) append(kind Kind, field byte, typ FieldType, trans byte, vals []uint64) {
	if len(vals) == 0 {
		return
	}
	nums := vals
	switch trans {
	case transDelta:
		nums = c.deltas(vals, 0)
	case transDelta16:
		nums = c.deltas(vals, 4)
	}
	constant := true
	for _, v := range nums {
		if v != nums[0] {
			constant = false
			break
		}
	}
	if constant {
		c.appendConstant(kind, field, typ, trans, nums[0], len(nums))
		return
	}
	c.dst = append(c.dst, byte(kind), field, byte(typ))
	width := c.est.width(nums)
	c.exceptions(nums, width)
	c.dst = append(c.dst, encPlanes|trans)
	c.dst = binary.AppendUvarint(c.dst, uint64(len(vals)))
	c.dst = binary.AppendUvarint(c.dst, uint64(1+width*len(nums)+len(c.exc)))
	c.dst = append(c.dst, byte(width))
	c.planes(nums, width)
}

// appendConstant adds a column of n rows that are all v.
func (c *columnEncoder) appendConstant(kind Kind, field byte, typ FieldType, trans byte, v uint64, n int) {
	c.dst = append(c.dst, byte(kind), field, byte(typ), encConst|trans)
	c.dst = binary.AppendUvarint(c.dst, uint64(n))
	c.dst = binary.AppendUvarint(c.dst, uint64(uvarintLen(v)))
	c.dst = binary.AppendUvarint(c.dst, v)
}

// appendKinds adds the kinds of all events, of which there are fewer than 255.
func (c *columnEncoder) appendKinds(kinds []byte) {
	n := len(kinds)
	if n == bytes.Count(kinds, kinds[:1]) {
		c.appendConstant(fieldCommon, fieldKind, TypeUint, transNone, uint64(kinds[0]), n)
		return
	}
	c.dst = append(c.dst, byte(fieldCommon), fieldKind, byte(TypeUint), encPlanes|transNone)
	c.dst = binary.AppendUvarint(c.dst, uint64(n))
	c.dst = binary.AppendUvarint(c.dst, uint64(1+n))
	c.dst = append(c.dst, 1)
	copy(c.plane(n), kinds)
	c.cut(n)
}

func (c *columnEncoder) deltas(vals []uint64, shift uint) []uint64 {
	if cap(c.nums) < len(vals) {
		c.nums = make([]uint64, len(vals))
	}
	nums := c.nums[:len(vals)]
	var prev uint64
	for i, v := range vals {
		nums[i] = zigzag(int64(v-prev) >> shift)
		prev = v
	}
	return nums
}

// exceptions collects the numbers that do not fit the planes.
func (c *columnEncoder) exceptions(nums []uint64, width int) {
	c.exc = c.exc[:0]
	limit := uint64(0xff) << (8 * (width - 1))
	for _, v := range nums {
		if v >= limit {
			c.exc = binary.AppendUvarint(c.exc, v)
		}
	}
}

func (c *columnEncoder) planes(nums []uint64, width int) {
	n := len(nums)
	limit := uint64(0xff) << (8 * (width - 1))
	c.dst = slices.Grow(c.dst, width*n) // once: two planes are written at a time
	for p := 0; p < width; p++ {
		low := c.plane(n)
		if p+1 == width {
			for i, v := range nums {
				low[i] = byte(min(v, limit) >> (8 * p & 63))
			}
			break
		}
		// Two at once, since the numbers come from memory.
		p++
		high := c.plane(n)
		for i, v := range nums {
			v = min(v, limit) >> (8 * (p - 1) & 63)
			low[i], high[i] = byte(v), byte(v>>8)
		}
	}
	c.cut(len(c.exc))
	c.dst = append(c.dst, c.exc...)
	c.cut(n)
}

// plane makes room for n bytes of a column.
func (c *columnEncoder) plane(n int) []byte {
	c.cut(n)
	at := len(c.dst)
	c.dst = slices.Grow(c.dst, n)[:at+n]
	return c.dst[at : at+n : at+n]
}

// minCut is how many bytes are worth statistics of their own.
const minCut = 2 << 10

// cut notes that n bytes of another nature follow.
func (c *columnEncoder) cut(n int) {
	last := 0
	if len(c.cuts) > 0 {
		last = c.cuts[len(c.cuts)-1]
	}
	if n >= minCut && len(c.dst)-last >= minCut {
		c.cuts = append(c.cuts, len(c.dst))
	}
}

// decodeColumn fills dst, a value per row, from the bytes of a column.
func decodeColumn(dst []uint64, enc byte, b []byte) error {
	if len(dst) == 0 {
		return nil
	}
	var err error
	switch enc & encMask {
	case encConst:
		v, n := uvarint(b)
		if n == 0 || n != len(b) {
			return fmt.Errorf("%w: constant column", ErrMalformed)
		}
		for i := range dst {
			dst[i] = v
		}
	case encPlanes:
		err = decodePlanes(dst, b)
	default:
		return fmt.Errorf("%w: column encoding %#x", errUnknown, enc)
	}
	if err != nil {
		return err
	}
	return undoTransform(dst, enc&transMask)
}

func decodePlanes(dst []uint64, b []byte) error {
	n := len(dst)
	if len(b) < 1 || b[0] < 1 || b[0] > 8 || len(b)-1 < int(b[0])*n {
		return fmt.Errorf("%w: column of %d bytes for %d rows", ErrMalformed, len(b), n)
	}
	width, b := int(b[0]), b[1:]
	joinPlanes(dst, b, width)
	top, exc := b[(width-1)*n:width*n], b[width*n:]
	for i := 0; ; i++ {
		next := bytes.IndexByte(top[i:], 0xff)
		if next < 0 {
			break
		}
		i += next
		v, k := uvarint(exc)
		if k == 0 {
			return fmt.Errorf("%w: column lacks the value of row %d", ErrMalformed, i)
		}
		dst[i], exc = v, exc[k:]
	}
	if len(exc) != 0 {
		return fmt.Errorf("%w: %d bytes after the last row", ErrMalformed, len(exc))
	}
	return nil
}

// joinPlanes puts the bytes of numbers together. Nearly all columns are one to
// three bytes wide; those are done in one go.
func joinPlanes(dst []uint64, b []byte, width int) {
	n := len(dst)
	low := b[:n]
	switch width {
	case 1:
		for i, v := range low {
			dst[i] = uint64(v)
		}
	case 2:
		mid := b[n:][:len(low)]
		for i, v := range low {
			dst[i] = uint64(v) | uint64(mid[i])<<8
		}
	case 3:
		mid, high := b[n:][:len(low)], b[2*n:][:len(low)]
		for i, v := range low {
			dst[i] = uint64(v) | uint64(mid[i])<<8 | uint64(high[i])<<16
		}
	default:
		joinPlanes(dst, b, 3)
		for p := 3; p < width; p++ {
			plane, shift := b[p*n:][:n], uint(8*p)
			for i := range dst {
				dst[i] |= uint64(plane[i]) << (shift & 63)
			}
		}
	}
}

func undoTransform(dst []uint64, trans byte) error {
	var v uint64
	switch trans {
	case transNone, transReuse16, transReuse8, transReuse1:
	case transDelta:
		for i, d := range dst {
			v += uint64(unzigzag(d))
			dst[i] = v
		}
	case transDelta16:
		for i, d := range dst {
			v += uint64(unzigzag(d)) << 4
			dst[i] = v
		}
	default:
		return fmt.Errorf("%w: column transform %#x", errUnknown, trans)
	}
	return nil
}

// appendBytes adds a column of TypeBytes: a length per row, and the bytes of
// all rows.
func (c *columnEncoder) appendBytes(kind Kind, field byte, lengths []uint64, data []byte) {
	if len(lengths) == 0 {
		return
	}
	// The lengths are a column of their own, whose header says what their bytes
	// must be prefixed with.
	at, cuts := len(c.dst), len(c.cuts)
	c.append(kind, field, TypeBytes, transNone, lengths)
	h := cursor{b: c.dst[at+3:]}
	enc, rows := h.byte(), h.uvarint()
	body := slices.Clone(h.bytes(int(h.uvarint())))
	c.dst, c.cuts = c.dst[:at+3], c.cuts[:cuts]
	prefix := binary.AppendUvarint([]byte{enc}, uint64(len(body)))
	c.dst = append(c.dst, encBytes|transNone)
	c.dst = binary.AppendUvarint(c.dst, rows)
	c.dst = binary.AppendUvarint(c.dst, uint64(len(prefix)+len(body)+len(data)))
	c.dst = append(append(c.dst, prefix...), body...)
	c.cut(len(data))
	c.dst = append(c.dst, data...)
	c.cut(len(data))
}

// decodeBytes fills lengths, one per row, and returns the bytes of all rows,
// which stay part of b.
func decodeBytes(lengths []uint64, b []byte) ([]byte, error) {
	c := cursor{b: b}
	enc := c.byte()
	nums := c.bytes(c.count(maxRawLen))
	if c.err != nil || enc&encMask == encBytes {
		return nil, fmt.Errorf("%w: lengths of bytes", ErrMalformed)
	}
	if err := decodeColumn(lengths, enc, nums); err != nil {
		return nil, err
	}
	var sum uint64
	for _, n := range lengths {
		if n > maxData {
			return nil, fmt.Errorf("%w: %d bytes in one event", ErrLimit, n)
		}
		sum += n
	}
	if sum != uint64(len(c.b)) {
		return nil, fmt.Errorf("%w: %d bytes where their lengths are %d in all", ErrMalformed, len(c.b), sum)
	}
	return c.b, nil
}
