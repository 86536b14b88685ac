package unwind

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrDamaged is wrapped by every error about call frame information that does
// not follow its format.
var ErrDamaged = errors.New("damaged call frame information")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// A cursor reads numbers from untrusted bytes. Past the end it gives zeros and
// remembers that, so that a reader checks once, after a whole record.
type cursor struct {
	b   []byte
	at  int
	bad bool
}

func (c *cursor) done() bool { return c.bad || c.at >= len(c.b) }

// take returns the next n bytes, nil when there are fewer.
func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.b)-c.at) {
		c.bad = true
		return nil
	}
	b := c.b[c.at : c.at+int(n)]
	c.at += int(n)
	return b
}

func (c *cursor) u8() uint8 {
	if c.bad || c.at >= len(c.b) {
		c.bad = true
		return 0
	}
	v := c.b[c.at]
	c.at++
	return v
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// maxLEB bounds the bytes of a LEB128 number: ten hold 64 bits, the others can
// only be padding.
const maxLEB = 16

// uleb reads an unsigned LEB128 number (DWARF 5, 7.6). Padding is allowed,
// bits beyond 64 are not.
func (c *cursor) uleb() uint64 {
	var v uint64
	for shift := uint(0); shift < 7*maxLEB; shift += 7 {
		b := c.u8()
		if part := uint64(b & 0x7f); shift >= 64 && part != 0 || shift == 63 && part > 1 {
			break
		} else if shift < 64 {
			v |= part << shift
		}
		if c.bad {
			return 0
		}
		if b&0x80 == 0 {
			return v
		}
	}
	c.bad = true
	return 0
}

// sleb reads a signed LEB128 number; bits beyond 64 are dropped.
func (c *cursor) sleb() int64 {
	var v uint64
	for shift := uint(0); shift < 7*maxLEB; {
		b := c.u8()
		if c.bad {
			return 0
		}
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		shift += 7
		if b&0x80 == 0 {
			if b&0x40 != 0 && shift < 64 {
				v |= ^uint64(0) << shift
			}
			return int64(v)
		}
	}
	c.bad = true
	return 0
}

// str reads a string of at most 64 bytes that ends with a zero byte: an
// augmentation has a handful of letters.
func (c *cursor) str() string {
	for i := c.at; i < min(len(c.b), c.at+64) && !c.bad; i++ {
		if c.b[i] == 0 {
			s := string(c.b[c.at:i])
			c.at = i + 1
			return s
		}
	}
	c.bad = true
	return ""
}

// Pointer encodings of .eh_frame (Linux Standard Base 5, Core, 10.5.1).
const (
	peAbs     = 0x00
	peULEB    = 0x01
	peU2      = 0x02
	peU4      = 0x03
	peU8      = 0x04
	peSigned  = 0x08
	peSLEB    = 0x09
	peS2      = 0x0a
	peS4      = 0x0b
	peS8      = 0x0c
	pePCRel   = 0x10
	peTextRel = 0x20
	peDataRel = 0x30
	peFuncRel = 0x40
	peAligned = 0x50
	peBase    = 0x70
	peInd     = 0x80 // the address of the pointer, not the pointer
	peOmit    = 0xff
)

// bases are what encoded pointers are relative to.
type bases struct {
	section    uint64 // address of the cursor's first byte
	text, data uint64
	function   uint64
}

// pointer reads an encoded pointer. An indirect one lies in memory that is not
// at hand, so ok is false, as it is for pointers that are omitted or damaged.
func (c *cursor) pointer(enc byte, base *bases) (v uint64, ok bool) {
	if enc == peOmit {
		return 0, false
	}
	if enc&peBase == peAligned {
		if rest := (base.section + uint64(c.at)) % 8; rest != 0 {
			c.take(8 - rest)
		}
		return c.u64(), !c.bad && enc&peInd == 0
	}
	at := base.section + uint64(c.at)
	switch enc & 0x0f {
	case peAbs, peU8, peS8:
		v = c.u64()
	case peSigned: // a signed pointer, 8 bytes here
		v = c.u64()
	case peULEB:
		v = c.uleb()
	case peSLEB:
		v = uint64(c.sleb())
	case peU2:
		v = uint64(c.u16())
	case peS2:
		v = uint64(int16(c.u16()))
	case peU4:
		v = uint64(c.u32())
	case peS4:
		v = uint64(int32(c.u32()))
	default:
		c.bad = true
	}
	switch enc & peBase {
	case peAbs:
	case pePCRel:
		v += at
	case peTextRel:
		v += base.text
	case peDataRel:
		v += base.data
	case peFuncRel:
		v += base.function
	default:
		c.bad = true
	}
	return v, !c.bad && enc&peInd == 0
}
