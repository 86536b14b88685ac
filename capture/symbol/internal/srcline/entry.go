package srcline

import (
	"debug/dwarf"
	"sort"
)

// Attribute forms (DWARF 5, 7.5.6) and the GNU ones of binutils' dwarf2.def.
const (
	formAddr          = 0x01
	formBlock2        = 0x03
	formBlock4        = 0x04
	formData2         = 0x05
	formData4         = 0x06
	formData8         = 0x07
	formString        = 0x08
	formBlock         = 0x09
	formBlock1        = 0x0a
	formData1         = 0x0b
	formFlag          = 0x0c
	formSdata         = 0x0d
	formStrp          = 0x0e
	formUdata         = 0x0f
	formRefAddr       = 0x10
	formRef1          = 0x11
	formRef2          = 0x12
	formRef4          = 0x13
	formRef8          = 0x14
	formRefUdata      = 0x15
	formIndirect      = 0x16
	formSecOffset     = 0x17
	formExprloc       = 0x18
	formFlagPresent   = 0x19
	formStrx          = 0x1a
	formAddrx         = 0x1b
	formRefSup4       = 0x1c
	formStrpSup       = 0x1d
	formData16        = 0x1e
	formLineStrp      = 0x1f
	formRefSig8       = 0x20
	formImplicitConst = 0x21
	formLoclistx      = 0x22
	formRnglistx      = 0x23
	formRefSup8       = 0x24
	formStrx1         = 0x25
	formStrx2         = 0x26
	formStrx3         = 0x27
	formStrx4         = 0x28
	formAddrx1        = 0x29
	formAddrx2        = 0x2a
	formAddrx3        = 0x2b
	formAddrx4        = 0x2c
	formGNUAddrIndex  = 0x1f01
	formGNUStrIndex   = 0x1f02
	formGNURefAlt     = 0x1f20
	formGNUStrpAlt    = 0x1f21
)

// Sizes of forms that have no fixed one.
const (
	sizeVariable = -1
	sizeUnknown  = -2
)

// formSize returns the bytes that a form takes in a unit.
func (u *unit) formSize(form uint16) int {
	switch form {
	case formFlagPresent, formImplicitConst:
		return 0
	case formData1, formFlag, formRef1, formStrx1, formAddrx1:
		return 1
	case formData2, formRef2, formStrx2, formAddrx2:
		return 2
	case formStrx3, formAddrx3:
		return 3
	case formData4, formRef4, formStrx4, formAddrx4, formRefSup4:
		return 4
	case formData8, formRef8, formRefSig8, formRefSup8:
		return 8
	case formData16:
		return 16
	case formAddr:
		return int(u.addrSize)
	case formRefAddr:
		if u.version == 2 {
			return int(u.addrSize)
		}
		return u.offsetSize()
	case formStrp, formSecOffset, formLineStrp, formStrpSup, formGNURefAlt, formGNUStrpAlt:
		return u.offsetSize()
	case formBlock1, formBlock2, formBlock4, formBlock, formExprloc, formString, formSdata, formUdata, formRefUdata,
		formIndirect, formStrx, formAddrx, formLoclistx, formRnglistx, formGNUAddrIndex, formGNUStrIndex:
		return sizeVariable
	}
	return sizeUnknown
}

// skipForm passes over a value. An unknown form fails the cursor: nothing after
// it can be found.
func (u *unit) skipForm(c *cursor, form uint16) {
	if n := u.formSize(form); n >= 0 {
		c.skip(uint64(n))
		return
	}
	switch form {
	case formBlock1:
		c.skip(uint64(c.u8()))
	case formBlock2:
		c.skip(c.uint(2))
	case formBlock4:
		c.skip(c.uint(4))
	case formBlock, formExprloc:
		c.skip(c.uleb())
	case formString:
		c.cstring()
	case formIndirect:
		if inner := c.uleb(); inner != formIndirect && inner <= 0xffff {
			u.skipForm(c, uint16(inner))
		} else {
			c.fail()
		}
	case formSdata, formUdata, formRefUdata, formStrx, formAddrx, formLoclistx, formRnglistx, formGNUAddrIndex, formGNUStrIndex:
		c.skipLEB()
	default:
		c.fail()
	}
}

// value is an attribute's value, not yet looked up in the section that its form
// refers to. form is 0 when the attribute is absent.
type value struct {
	form uint16
	num  uint64
	text []byte // of formString
}

func (u *unit) readForm(c *cursor, a attr) value {
	form := a.form
	if form == formIndirect {
		inner := c.uleb()
		if inner == formIndirect || inner == 0 || inner > 0xffff {
			c.fail()
			return value{}
		}
		form = uint16(inner)
	}
	v := value{form: form}
	switch form {
	case formImplicitConst:
		v.num = uint64(a.implicit)
	case formSdata:
		v.num = uint64(c.sleb())
	case formUdata, formRefUdata, formStrx, formAddrx, formLoclistx, formRnglistx, formGNUAddrIndex, formGNUStrIndex:
		v.num = c.uleb()
	case formString:
		v.text = c.cstring()
		v.text = v.text[:min(len(v.text), maxString)]
	default:
		if n := u.formSize(form); n >= 0 && n <= 8 {
			v.num = c.uint(n)
		} else {
			u.skipForm(c, form)
		}
	}
	if c.bad {
		return value{}
	}
	return v
}

// entry holds the attributes that matter of one debugging information entry.
type entry struct {
	tag                       dwarf.Tag
	children                  bool
	name, linkage             value
	low, high, ranges, start  value
	origin, sibling           value
	callFile, callLine        value
	compDir, lines, language  value
	addrBase, rngBase, strOff value
	dwoName, dwoID            value
}

// slot returns where an attribute is kept, nil if it is not.
func (e *entry) slot(a dwarf.Attr) *value {
	const (
		mipsLinkageName = 0x2007
		gnuDwoName      = 0x2130
		gnuDwoID        = 0x2131
		gnuRangesBase   = 0x2132
		gnuAddrBase     = 0x2133
	)
	switch a {
	case dwarf.AttrName:
		return &e.name
	case dwarf.AttrLinkageName, mipsLinkageName:
		return &e.linkage
	case dwarf.AttrLowpc:
		return &e.low
	case dwarf.AttrHighpc:
		return &e.high
	case dwarf.AttrRanges:
		return &e.ranges
	case dwarf.AttrEntrypc:
		return &e.start
	case dwarf.AttrAbstractOrigin, dwarf.AttrSpecification:
		return &e.origin
	case dwarf.AttrSibling:
		return &e.sibling
	case dwarf.AttrCallFile:
		return &e.callFile
	case dwarf.AttrCallLine:
		return &e.callLine
	case dwarf.AttrCompDir:
		return &e.compDir
	case dwarf.AttrStmtList:
		return &e.lines
	case dwarf.AttrLanguage:
		return &e.language
	case dwarf.AttrAddrBase, gnuAddrBase:
		return &e.addrBase
	case dwarf.AttrRnglistsBase, gnuRangesBase:
		return &e.rngBase
	case dwarf.AttrDwoName, gnuDwoName:
		return &e.dwoName
	case gnuDwoID:
		return &e.dwoID
	case dwarf.AttrStrOffsetsBase:
		return &e.strOff
	}
	return nil
}

// read decodes the attributes of an entry whose abbreviation is ab.
func (e *entry) read(u *unit, c *cursor, ab *abbrev) {
	e.tag, e.children = ab.tag, ab.children
	for _, a := range ab.attrs {
		if s := e.slot(a.name); s != nil {
			*s = u.readForm(c, a)
		} else {
			u.skipForm(c, a.form)
		}
	}
}

// text looks up a string value.
func (d *Data) text(u *unit, v value) []byte {
	switch v.form {
	case formString:
		return v.text
	case formStrp:
		return stringAt(d.s.Str, v.num)
	case formLineStrp:
		return stringAt(d.s.LineStr, v.num)
	case formStrpSup, formGNUStrpAlt:
		if d.alt != nil {
			return stringAt(d.alt.s.Str, v.num)
		}
	case formStrx, formStrx1, formStrx2, formStrx3, formStrx4, formGNUStrIndex:
		size := uint64(u.offsetSize())
		c := d.at(d.s.StrOffsets, u.strBase+v.num*size)
		if off := c.uint(int(size)); !c.bad {
			return stringAt(d.s.Str, off)
		}
	}
	return nil
}

// address looks up an address value.
func (d *Data) address(u *unit, v value) (uint64, bool) {
	switch v.form {
	case formAddr:
		return v.num, true
	case formAddrx, formAddrx1, formAddrx2, formAddrx3, formAddrx4, formGNUAddrIndex:
		return d.indexed(u, v.num)
	}
	return 0, false
}

// indexed returns an entry of the unit's part of .debug_addr.
func (d *Data) indexed(u *unit, index uint64) (uint64, bool) {
	size := uint64(u.addrSize)
	if index > uint64(len(d.s.Addr))/size {
		return 0, false
	}
	c := d.at(d.s.Addr, u.addrBase+index*size)
	v := c.uint(int(size))
	return v, !c.bad
}

// nameOf returns the name of the function at an entry, or of what it is an
// instance or definition of. A linkage name anywhere on the way wins.
func (d *Data) nameOf(off, hops int) string {
	if name, ok := d.names[off]; ok {
		return name
	}
	u, e, ok := d.entryAt(off)
	if !ok {
		return ""
	}
	name := string(d.text(u, e.linkage))
	if name == "" && hops < maxHops {
		name = d.originName(u, e.origin, hops+1)
	}
	if plain := d.text(u, e.name); name == "" && len(plain) > 0 {
		name = d.scopeOf(u, off) + string(plain)
	}
	if d.grow(len(name) + 48) {
		d.names[off] = name
	}
	return name
}

// originName follows a reference to another entry.
func (d *Data) originName(u *unit, ref value, hops int) string {
	switch ref.form {
	case formRef1, formRef2, formRef4, formRef8, formRefUdata:
		if ref.num < uint64(u.end-u.off) {
			return d.nameOf(u.off+int(ref.num), hops)
		}
	case formRefAddr:
		if ref.num < uint64(len(d.s.Info)) {
			return d.nameOf(int(ref.num), hops)
		}
	case formGNURefAlt, formRefSup4, formRefSup8:
		if d.alt != nil && ref.num < uint64(len(d.alt.s.Info)) {
			return d.alt.nameOf(int(ref.num), hops)
		}
	}
	return ""
}

// entryAt reads the entry at an offset of .debug_info.
func (d *Data) entryAt(off int) (*unit, entry, bool) {
	i := sort.Search(len(d.units), func(i int) bool { return d.units[i].off > off }) - 1
	if i < 0 || off < d.units[i].first || off >= d.units[i].end {
		return nil, entry{}, false
	}
	u := &d.units[i]
	table := d.abbrevsOf(u)
	c := cursor{data: d.s.Info[:u.end], pos: off, big: d.big}
	ab := table.get(c.uleb())
	if ab == nil {
		return nil, entry{}, false
	}
	var e entry
	e.read(u, &c, ab)
	return u, e, !c.bad && d.spend(c.pos-off)
}
