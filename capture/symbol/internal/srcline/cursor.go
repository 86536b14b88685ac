package srcline

import (
	"bytes"
	"encoding/binary"
)

// cursor reads a section. Past the end it returns zeros, sets bad, and stays at
// the end, so that loops on its position finish.
type cursor struct {
	data []byte
	pos  int
	big  bool
	bad  bool
}

// at returns a cursor on data at off, bad when that lies outside.
func (d *Data) at(data []byte, off uint64) cursor {
	c := cursor{data: data, big: d.big}
	c.skip(off)
	return c
}

func (c *cursor) fail() {
	c.bad, c.pos = true, len(c.data)
}

func (c *cursor) left() int { return len(c.data) - c.pos }

func (c *cursor) skip(n uint64) {
	if n > uint64(c.left()) {
		c.fail()
		return
	}
	c.pos += int(n)
}

func (c *cursor) take(n uint64) []byte {
	from := c.pos
	c.skip(n)
	if c.bad {
		return nil
	}
	return c.data[from:c.pos]
}

func (c *cursor) u8() uint8 {
	if c.pos >= len(c.data) {
		c.fail()
		return 0
	}
	b := c.data[c.pos]
	c.pos++
	return b
}

// uint reads an unsigned number of 1 to 8 bytes.
func (c *cursor) uint(size int) uint64 {
	b := c.take(uint64(size))
	if b == nil {
		return 0
	}
	switch {
	case size == 8 && !c.big:
		return binary.LittleEndian.Uint64(b)
	case size == 4 && !c.big:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	var v uint64
	for i := range b {
		if c.big {
			v = v<<8 | uint64(b[i])
		} else {
			v |= uint64(b[i]) << (8 * i)
		}
	}
	return v
}

func (c *cursor) uleb() uint64 {
	var v uint64
	for shift := 0; ; shift += 7 {
		b := c.u8()
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b < 0x80 {
			return v
		}
	}
}

func (c *cursor) sleb() int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		b := c.u8()
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		if b < 0x80 {
			if b&0x40 != 0 && shift+7 < 64 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

// skipLEB passes over a LEB128 number.
func (c *cursor) skipLEB() {
	for c.u8() >= 0x80 {
	}
}

// cstring reads up to and past a NUL.
func (c *cursor) cstring() []byte {
	i := bytes.IndexByte(c.data[c.pos:], 0)
	if i < 0 {
		c.fail()
		return nil
	}
	s := c.data[c.pos : c.pos+i]
	c.pos += i + 1
	return s
}

// stringAt returns the string at an offset of a string section, cut at
// maxString bytes.
func stringAt(section []byte, off uint64) []byte {
	if off >= uint64(len(section)) {
		return nil
	}
	s := section[off:min(off+maxString, uint64(len(section)))]
	if i := bytes.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	return s
}
