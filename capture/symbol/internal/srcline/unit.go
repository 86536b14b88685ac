package srcline

import (
	"debug/dwarf"
	"fmt"
)

// unit is a compile, partial or skeleton unit.
type unit struct {
	off, first, end int // offsets in .debug_info: header, first entry, end
	version         uint16
	addrSize        uint8
	dwarf64         bool
	abbrevOff       uint64

	// Of the first entry.
	compDir, lines             value
	language                   uint64
	low                        uint64 // base address of range lists
	addrBase, rngBase, strBase uint64
	dwoName                    value  // of the other part of a skeleton
	dwoID                      uint64 // of both parts

	oldRanges  uint64 // what offsets into .debug_ranges count from
	splitTried bool
	split      *Data // the other part, once it was found
	splitUnit  int   // in its units

	functions *functions     // nil until needed
	positions *lines         // nil until needed
	scopes    map[int]string // nil until needed
}

// unitBytes is about what a unit takes.
const unitBytes = 256

func (u *unit) offsetSize() int {
	if u.dwarf64 {
		return 8
	}
	return 4
}

// initialLength reads a length of 4 bytes, or of 8 after an escape.
func (c *cursor) initialLength() (length uint64, dwarf64 bool) {
	length = c.uint(4)
	if length == 0xffffffff {
		return c.uint(8), true
	}
	return length, false
}

// readUnits reads the header and the first entry of every unit.
func (d *Data) readUnits() {
	c := cursor{data: d.s.Info, big: d.big}
	for c.left() > 0 {
		u := unit{off: c.pos}
		var length uint64
		length, u.dwarf64 = c.initialLength()
		body := c.pos
		c.skip(length)
		if c.bad {
			d.fail(fmt.Errorf("unit at %#x: %w", u.off, errTruncated))
			return
		}
		if length == 0 { // padding
			continue
		}
		u.end = c.pos
		header := cursor{data: d.s.Info[:u.end], pos: body, big: d.big}
		root, ok := d.readUnitHeader(&header, &u)
		if !ok {
			continue
		}
		if !d.grow(unitBytes) {
			return
		}
		d.eachRange(&u, &root, func(low, high uint64) {
			if d.grow(rangeBytes) {
				d.code = append(d.code, unitRange{low, high, int32(len(d.units))})
			}
		})
		d.units = append(d.units, u)
	}
}

// readUnitHeader reads up to the end of the first entry. It reports false for a
// unit that holds no code or is not understood.
func (d *Data) readUnitHeader(c *cursor, u *unit) (root entry, ok bool) {
	u.version = uint16(c.uint(2))
	switch {
	case u.version == 5:
		kind := c.u8()
		u.addrSize = c.u8()
		u.abbrevOff = c.uint(u.offsetSize())
		const skeleton, split = 0x04, 0x05
		switch kind {
		case 0x01, 0x03: // compile, partial
		case skeleton, split:
			u.dwoID = c.uint(8)
		default:
			return root, false
		}
		// Where the tables of a unit that names no base begin: after one
		// header (7.26).
		u.strBase, u.addrBase = 8, 8
	case u.version >= 2 && u.version <= 4:
		u.abbrevOff = c.uint(u.offsetSize())
		u.addrSize = c.u8()
	default:
		return root, false
	}
	if c.bad || u.addrSize == 0 || u.addrSize > 8 {
		return root, false
	}
	u.first = c.pos
	ab, ok := d.firstAbbrev(u, c.uleb())
	if !ok {
		return root, false
	}
	root.read(u, c, &ab)
	if c.bad {
		return root, false
	}
	d.setBases(u, &root)
	return root, d.spend(c.pos - u.off)
}

// setBases takes from the first entry what other values are relative to.
func (d *Data) setBases(u *unit, root *entry) {
	for _, base := range []struct {
		from value
		to   *uint64
	}{{root.addrBase, &u.addrBase}, {root.rngBase, &u.rngBase}, {root.strOff, &u.strBase}} {
		if base.from.form != 0 {
			*base.to = base.from.num
		}
	}
	if u.dwoName = root.dwoName; root.dwoID.form != 0 {
		u.dwoID = root.dwoID.num
	}
	u.compDir, u.lines, u.language = root.compDir, root.lines, root.language.num
	u.low, _ = d.address(u, root.low)
}

// attr is one attribute specification of an abbreviation.
type attr struct {
	name     dwarf.Attr
	form     uint16
	implicit int64
}

// abbrev is the shape of an entry.
type abbrev struct {
	code     uint64
	tag      dwarf.Tag
	children bool
	size     int // bytes of all attributes, or sizeVariable
	sibling  bool
	attrs    []attr
}

type abbrevTable struct {
	list  []abbrev
	other map[uint64]*abbrev // those whose code is not their place in list
}

// abbrevKey has all that the decoded table depends on.
type abbrevKey struct {
	off      uint64
	version  uint16
	addrSize uint8
	dwarf64  bool
}

func (t *abbrevTable) get(code uint64) *abbrev {
	if i := code - 1; i < uint64(len(t.list)) && t.list[i].code == code {
		return &t.list[i]
	}
	return t.other[code]
}

// readAbbrev reads one abbreviation, appending its attributes to arena; its code
// is 0 at the end of the table.
func (u *unit) readAbbrev(c *cursor, arena []attr) abbrev {
	ab := abbrev{code: c.uleb()}
	if ab.code == 0 {
		return ab
	}
	ab.tag, ab.children = dwarf.Tag(c.uleb()), c.u8() != 0
	for !c.bad {
		name, form := c.uleb(), c.uleb()
		a := attr{form: uint16(form)}
		if form > 0xffff {
			c.fail()
		}
		if form == formImplicitConst {
			a.implicit = c.sleb()
		}
		if name == 0 && form == 0 {
			break
		}
		if name <= 0xffff {
			a.name = dwarf.Attr(name)
		}
		ab.sibling = ab.sibling || a.name == dwarf.AttrSibling
		if n := u.formSize(a.form); n < 0 || ab.size < 0 {
			ab.size = sizeVariable
		} else {
			ab.size += n
		}
		arena = append(arena, a)
	}
	ab.attrs = arena
	return ab
}

// firstAbbrev finds one abbreviation without keeping the table: most units are
// never looked at again.
func (d *Data) firstAbbrev(u *unit, code uint64) (abbrev, bool) {
	if code == 0 {
		return abbrev{}, false
	}
	c := d.at(d.s.Abbrev, u.abbrevOff)
	var arena []attr
	for !c.bad {
		from := c.pos
		ab := u.readAbbrev(&c, arena[:0])
		if c.bad || ab.code == 0 || !d.spend(c.pos-from) {
			break
		}
		if ab.code == code {
			return ab, true
		}
		arena = ab.attrs
	}
	return abbrev{}, false
}

// abbrevsOf returns the unit's abbreviations, decoding them when first asked.
func (d *Data) abbrevsOf(u *unit) *abbrevTable {
	key := abbrevKey{u.abbrevOff, u.version, u.addrSize, u.dwarf64}
	if t, ok := d.abbrevs[key]; ok {
		return t
	}
	t := &abbrevTable{other: make(map[uint64]*abbrev)}
	c := d.at(d.s.Abbrev, u.abbrevOff)
	var arena []attr // one for all: most abbreviations have a few attributes
	for !c.bad {
		from := c.pos
		ab := u.readAbbrev(&c, arena[len(arena):])
		if len(ab.attrs) <= cap(arena)-len(arena) {
			arena = arena[:len(arena)+len(ab.attrs)]
			ab.attrs = ab.attrs[:len(ab.attrs):len(ab.attrs)]
		} else {
			arena = make([]attr, 0, 4*len(ab.attrs)+256)
		}
		if c.bad || ab.code == 0 || !d.spend(c.pos-from) || !d.grow(64+16*len(ab.attrs)) {
			break
		}
		if ab.code == uint64(len(t.list))+1 {
			t.list = append(t.list, ab)
		} else {
			t.other[ab.code] = &ab
		}
	}
	d.abbrevs[key] = t
	return t
}
