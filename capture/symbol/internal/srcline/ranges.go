package srcline

// Entries of .debug_rnglists (DWARF 5, 7.25).
const (
	rleEndOfList    = 0x00
	rleBaseAddressx = 0x01
	rleStartxEndx   = 0x02
	rleStartxLength = 0x03
	rleOffsetPair   = 0x04
	rleBaseAddress  = 0x05
	rleStartEnd     = 0x06
	rleStartLength  = 0x07
)

// eachRange calls visit for every range of code of an entry. Code at address 0
// is what the linker dropped, and is left out.
func (d *Data) eachRange(u *unit, e *entry, visit func(low, high uint64)) {
	some := func(low, high uint64) {
		if low != 0 && low < high {
			visit(low, high)
		}
	}
	if e.ranges.form != 0 {
		if u.version >= 5 {
			d.rangeList(u, e.ranges, some)
		} else {
			d.oldRangeList(u, e.ranges.num+u.oldRanges, some)
		}
		return
	}
	low, ok := d.address(u, e.low)
	if !ok {
		return
	}
	if high, ok := d.address(u, e.high); ok {
		some(low, high)
	} else if e.high.form != 0 {
		some(low, low+e.high.num)
	}
}

// oldRangeList reads .debug_ranges: pairs of addresses relative to a base,
// which the pair (largest address, base) changes, up to (0, 0).
func (d *Data) oldRangeList(u *unit, off uint64, visit func(low, high uint64)) {
	size := int(u.addrSize)
	largest := ^uint64(0) >> (64 - 8*size)
	c := d.at(d.s.Ranges, off)
	for base := u.low; !c.bad && d.spend(2*size); {
		low, high := c.uint(size), c.uint(size)
		switch {
		case low == 0 && high == 0:
			return
		case low == largest:
			base = high
		case !c.bad && low < high:
			visit(base+low, base+high)
		}
	}
}

// rangeList reads .debug_rnglists, at an offset or through the unit's table.
func (d *Data) rangeList(u *unit, ref value, visit func(low, high uint64)) {
	off := ref.num
	if ref.form == formRnglistx {
		size := uint64(u.offsetSize())
		if ref.num > uint64(len(d.s.RngLists))/size {
			return
		}
		c := d.at(d.s.RngLists, u.rngBase+ref.num*size)
		off = u.rngBase + c.uint(int(size))
	}
	c := d.at(d.s.RngLists, off)
	for base := u.low; !c.bad; {
		from := c.pos
		var low, high uint64
		switch c.u8() {
		case rleBaseAddressx:
			base, _ = d.indexed(u, c.uleb())
		case rleStartxEndx:
			low, _ = d.indexed(u, c.uleb())
			high, _ = d.indexed(u, c.uleb())
		case rleStartxLength:
			low, _ = d.indexed(u, c.uleb())
			high = low + c.uleb()
		case rleOffsetPair:
			low = base + c.uleb()
			high = base + c.uleb()
		case rleBaseAddress:
			base = c.uint(int(u.addrSize))
		case rleStartEnd:
			low, high = c.uint(int(u.addrSize)), c.uint(int(u.addrSize))
		case rleStartLength:
			low = c.uint(int(u.addrSize))
			high = low + c.uleb()
		default: // rleEndOfList, or unknown
			return
		}
		if c.bad || !d.spend(c.pos-from) {
			return
		}
		if low < high {
			visit(low, high)
		}
	}
}
