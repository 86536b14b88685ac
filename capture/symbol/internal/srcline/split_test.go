package srcline

import (
	"encoding/binary"
	"testing"
)

// FuzzPackage looks a unit up in any index: no panic, no endless probing, and
// nothing from outside of the sections.
func FuzzPackage(f *testing.F) {
	header := func(version, columns, units, slots uint32) le {
		return le(nil).u16(uint16(version)).u16(0).u32(columns).u32(units).u32(slots)
	}
	good := header(5, 2, 1, 2).u64(0).u64(7).u32(0).u32(1).u32(1).u32(3).u32(0).u32(0).u32(2).u32(1)
	f.Add([]byte(good), uint64(7))
	f.Add([]byte(header(2, 1<<31, 1<<31, 1<<31)), uint64(1))
	f.Add([]byte(header(5, 64, 8, 8)), ^uint64(0))
	f.Fuzz(func(t *testing.T, index []byte, id uint64) {
		s := Sections{Info: []byte("info"), Abbrev: []byte("abbrev"), Order: binary.LittleEndian}
		got, ok := NewPackage(s, index).Unit(id)
		if ok && (len(got.Info) > len(s.Info) || len(got.Abbrev) > len(s.Abbrev)) {
			t.Errorf("more than there is: %+v", got)
		}
	})
}

func TestPackage(t *testing.T) {
	index := le(nil).u16(5).u16(0).u32(2).u32(1).u32(2).u64(0).u64(7).u32(0).u32(1).u32(1).u32(3).u32(1).u32(0).u32(2).u32(6)
	p := NewPackage(sections(Sections{Info: []byte("info"), Abbrev: []byte("abbrev")}), index)
	got, ok := p.Unit(7)
	if !ok || string(got.Info) != "nf" || string(got.Abbrev) != "abbrev" {
		t.Errorf("got %v, %q, %q", ok, got.Info, got.Abbrev)
	}
	if _, ok := p.Unit(9); ok {
		t.Error("found a unit that is not there")
	}
}
