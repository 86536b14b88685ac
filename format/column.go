package format

import (
	"encoding/binary"
	"fmt"
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
	encVarint = 3 // one uvarint per row

	transNone    = 0 << 4 // the value
	transDelta   = 1 << 4 // zigzag of the difference from the row before; the first from 0
	transDelta16 = 2 << 4 // the same in units of 16

	encMask   = 0x0f
	transMask = 0xf0
)

// Fields of kind 0.
const (
	fieldKind      = 0 // of each event
	fieldTime      = 1 // of each event, ns
	fieldTask      = 2 // of each event
	fieldDisplaced = 3 // births, by their number, whose address was still live

	fieldEscape = 0x80 // added to a TypeFreed field: addresses of the rows whose reference is 0
	fieldCommon = 0    // the kind under which the fields above are stored
)

// A Column holds one field of the events of one kind, a value per row.
type Column []uint64

// columnEncoder turns columns into bytes. Its buffers live from block to block.
type columnEncoder struct {
	nums []uint64
	exc  []byte
	body []byte
}

// append appends the column to dst.
func (c *columnEncoder) append(dst []byte, kind, field byte, typ FieldType, vals []uint64) []byte {
	if len(vals) == 0 {
		return dst
	}
	nums, trans := vals, byte(transNone)
	switch typ {
	case TypeBlock, TypeAddr:
		nums, trans = c.deltas(vals, true)
	case TypeDelta:
		nums, trans = c.deltas(vals, false)
	case TypeInt:
		nums, trans = c.signed(vals), transDelta
	}
	var enc byte
	enc, c.body = c.encode(c.body[:0], nums)
	dst = append(dst, kind, field, byte(typ), enc|trans)
	dst = binary.AppendUvarint(dst, uint64(len(vals)))
	dst = binary.AppendUvarint(dst, uint64(len(c.body)))
	return append(dst, c.body...)
}

func (c *columnEncoder) deltas(vals []uint64, addr bool) ([]uint64, byte) {
	shift, trans := 0, byte(transDelta)
	if addr {
		var all uint64
		for _, v := range vals {
			all |= v
		}
		if all&15 == 0 {
			shift, trans = 4, transDelta16
		}
	}
	nums := c.scratch(len(vals))
	var prev uint64
	for i, v := range vals {
		nums[i] = zigzag(int64(v-prev) >> shift)
		prev = v
	}
	return nums, trans
}

func (c *columnEncoder) signed(vals []uint64) []uint64 {
	nums, _ := c.deltas(vals, false)
	return nums
}

func (c *columnEncoder) scratch(n int) []uint64 {
	if cap(c.nums) < n {
		c.nums = make([]uint64, n)
	}
	return c.nums[:n]
}

// encode appends nums in the encoding that suits them best.
func (c *columnEncoder) encode(dst []byte, nums []uint64) (byte, []byte) {
	var all, differ uint64
	var over [8]int // numbers that do not fit i+1 planes
	for _, v := range nums {
		all |= v
		differ |= v ^ nums[0]
		if v >= 0xff {
			over[0]++
			if v >= 0xff00 {
				over[1]++
				if v >= 0xff0000 {
					over[2]++
					if v >= 0xff000000 {
						over[3]++
					}
				}
			}
		}
	}
	if differ == 0 {
		return encConst, binary.AppendUvarint(dst, nums[0])
	}
	width := 1
	for width < 4 && over[width-1] > len(nums)/16 {
		width++
	}
	if over[width-1] > len(nums)/4 {
		for _, v := range nums {
			dst = binary.AppendUvarint(dst, v)
		}
		return encVarint, dst
	}
	return encPlanes, c.planes(dst, nums, width)
}

func (c *columnEncoder) planes(dst []byte, nums []uint64, width int) []byte {
	dst = append(dst, byte(width))
	at, n := len(dst), len(nums)
	dst = append(dst, make([]byte, width*n)...)
	top := uint(8 * (width - 1))
	exc := c.exc[:0]
	for p := range width {
		plane, shift := dst[at+p*n:at+p*n+n], uint(8*p)
		for i, v := range nums {
			if v>>top >= 0xff {
				v = 0xff << top
				if p == 0 {
					exc = binary.AppendUvarint(exc, nums[i])
				}
			}
			plane[i] = byte(v >> shift)
		}
	}
	c.exc = exc
	return append(dst, exc...)
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
	case encVarint:
		err = decodeVarints(dst, b)
	default:
		return fmt.Errorf("%w: column encoding %#x", errUnknown, enc)
	}
	if err != nil {
		return err
	}
	return undoTransform(dst, enc&transMask)
}

func decodeVarints(dst []uint64, b []byte) error {
	for i := range dst {
		if len(b) > 0 && b[0] < 0x80 {
			dst[i], b = uint64(b[0]), b[1:]
			continue
		}
		v, n := uvarint(b)
		if n == 0 {
			return fmt.Errorf("%w: column ends at row %d of %d", ErrMalformed, i, len(dst))
		}
		dst[i], b = v, b[n:]
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: %d bytes after the last row", ErrMalformed, len(b))
	}
	return nil
}

func decodePlanes(dst []uint64, b []byte) error {
	n := len(dst)
	if len(b) < 1 || b[0] < 1 || b[0] > 8 || len(b)-1 < int(b[0])*n {
		return fmt.Errorf("%w: column of %d bytes for %d rows", ErrMalformed, len(b), n)
	}
	width, b := int(b[0]), b[1:]
	low, exc := b[:n], b[width*n:]
	for i, v := range low {
		dst[i] = uint64(v)
	}
	for p := 1; p < width; p++ {
		plane, shift := b[p*n:p*n+n:p*n+n], uint(8*p)
		for i := range dst {
			dst[i] |= uint64(plane[i]) << (shift & 63)
		}
	}
	top := b[(width-1)*n : width*n]
	for i, v := range top {
		if v != 0xff {
			continue
		}
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

func undoTransform(dst []uint64, trans byte) error {
	var v uint64
	switch trans {
	case transNone:
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
