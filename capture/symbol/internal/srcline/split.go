package srcline

import (
	"errors"
	"fmt"
	"slices"
)

// An Opener finds the sections of a unit whose functions were put into a file of
// their own by -gsplit-dwarf (DWARF 5, 7.3.2; before, the GNU extension of the
// same kind). name is as the compiler wrote it, relative to dir; id is what both
// parts share. The sections are those of the file's .dwo sections; false when
// there is none.
type Opener func(name, dir string, id uint64) (Sections, bool)

// SplitFrom tells where to look for split units. Without it, or when nothing is
// found, such units have lines and no functions.
func (d *Data) SplitFrom(open Opener) { d.open = open }

var errOtherBuild = errors.New("the file of its functions belongs to another build")

// splitOf returns where the functions of a unit are: the unit itself, or the
// other part of a skeleton.
func (d *Data) splitOf(u *unit) (*Data, *unit) {
	if !u.splitTried {
		u.splitTried = true
		if name := string(d.text(u, u.dwoName)); name != "" && d.open != nil {
			if s, ok := d.open(name, string(d.text(u, u.compDir)), u.dwoID); ok {
				d.addSplit(u, s)
			}
		}
	}
	if u.split == nil {
		return d, u
	}
	return u.split, &u.split.units[u.splitUnit]
}

// addSplit reads the other part of a skeleton. Addresses and, before DWARF 5,
// ranges are in the sections of the program.
func (d *Data) addSplit(u *unit, s Sections) {
	bytes := s.size()
	s.Order, s.Addr, s.Ranges = d.s.Order, d.s.Addr, d.s.Ranges
	part, err := New(s, nil)
	if err != nil {
		d.fail(fmt.Errorf("split unit at %#x: %w", u.off, err))
	}
	if part == nil {
		return
	}
	i := slices.IndexFunc(part.units, func(p unit) bool { return p.dwoID == u.dwoID })
	if i < 0 {
		d.fail(fmt.Errorf("split unit at %#x: %w", u.off, errOtherBuild))
		return
	}
	p := &part.units[i]
	p.addrBase, p.low, p.oldRanges = u.addrBase, u.low, u.rngBase
	if p.rngBase == 0 && p.version >= 5 { // behind one header (7.28)
		p.rngBase = 12
		if p.dwarf64 {
			p.rngBase = 20
		}
	}
	u.split, u.splitUnit = part, i
	d.splits = append(d.splits, part)
	d.splitBytes += bytes
}

// A Package is a .dwp file: the .dwo sections of a program's units one behind
// the other, and tables that say where those of a unit are (DWARF 5, 7.3.5).
type Package struct {
	s     Sections
	index []byte
	d     Data // for its cursors
}

// NewPackage returns the package of a file's .dwo sections and .debug_cu_index.
func NewPackage(s Sections, index []byte) *Package {
	return &Package{s: s, index: index, d: Data{s: s}}
}

// maxColumns bounds the sections of a package; DWARF 5 has eight.
const maxColumns = 64

// Unit returns the sections of a unit, false when the package has no such unit.
func (p *Package) Unit(id uint64) (Sections, bool) {
	c := p.d.at(p.index, 0)
	if version := c.uint(2); version != 2 && version != 5 {
		return Sections{}, false
	}
	c.skip(2)
	columns, units, slots := c.uint(4), c.uint(4), c.uint(4)
	if c.bad || columns == 0 || columns > maxColumns || slots == 0 || slots&(slots-1) != 0 || slots > uint64(len(p.index))/12 || units > slots {
		return Sections{}, false
	}
	hashes := uint64(16)
	rows := hashes + 8*slots
	row := uint64(0)
	for slot, step, n := id&(slots-1), id>>32&(slots-1)|1, uint64(0); n < slots; slot, n = (slot+step)&(slots-1), n+1 {
		h, r := p.d.at(p.index, hashes+8*slot), p.d.at(p.index, rows+4*slot)
		if found := r.uint(4); found == 0 {
			return Sections{}, false
		} else if h.uint(8) == id {
			row = found
			break
		}
	}
	if row == 0 || row > units {
		return Sections{}, false
	}
	return p.contributions(rows+4*slots, columns, units, row-1)
}

// contributions cuts a unit's parts out of the sections. at is where the table
// begins: the sections' numbers, then a row of offsets for each unit, then one of sizes.
func (p *Package) contributions(at, columns, units, row uint64) (Sections, bool) {
	out := Sections{Str: p.s.Str, Order: p.s.Order}
	version := p.d.at(p.index, 0)
	v5 := version.uint(2) == 5
	for col := range columns {
		number := p.d.at(p.index, at+4*col)
		offset := p.d.at(p.index, at+4*columns*(1+row)+4*col)
		size := p.d.at(p.index, at+4*columns*(1+units+row)+4*col)
		var from []byte
		var to *[]byte
		switch n := number.uint(4); {
		case n == 1:
			from, to = p.s.Info, &out.Info
		case n == 3:
			from, to = p.s.Abbrev, &out.Abbrev
		case n == 6:
			from, to = p.s.StrOffsets, &out.StrOffsets
		case n == 8 && v5:
			from, to = p.s.RngLists, &out.RngLists
		default:
			continue
		}
		part := p.d.at(from, offset.uint(4))
		*to = part.take(size.uint(4))
		if offset.bad || size.bad || part.bad {
			return Sections{}, false
		}
	}
	return out, out.Info != nil
}
