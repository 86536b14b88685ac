package srcline

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"
)

// le builds sections.
type le []byte

func (b le) u8(v ...byte) le       { return append(b, v...) }
func (b le) u16(v uint16) le       { return binary.LittleEndian.AppendUint16(b, v) }
func (b le) u32(v uint32) le       { return binary.LittleEndian.AppendUint32(b, v) }
func (b le) u64(v uint64) le       { return binary.LittleEndian.AppendUint64(b, v) }
func (b le) str(s string) le       { return append(append(b, s...), 0) }
func (b le) uleb(v uint64) le      { return binary.AppendUvarint(b, v) }
func (b le) sized(body le) le      { return append(b.u32(uint32(len(body))), body...) }
func sections(s Sections) Sections { s.Order = binary.LittleEndian; return s }

// unitWithLines is a unit for code at 0x1000 to 0x2000 with a line table at 0.
func unitWithLines(line le) Sections {
	return sections(Sections{
		Abbrev: le{}.u8(1, 0x11, 0, 0x11, formAddr, 0x12, formData4, 0x10, formSecOffset, 0, 0, 0),
		Info:   le{}.sized(le{}.u16(5).u8(1, 8).u32(0).u8(1).u64(0x1000).u32(0x1000).u32(0)),
		Line:   line,
	})
}

// TestLineHeaderCounts gives counts of directories and files that no memory
// could hold.
func TestLineHeaderCounts(t *testing.T) {
	for name, tables := range map[string]le{
		"directories":     le{}.u8(1, 1, formUdata).uleb(1 << 40),
		"files":           le{}.u8(0).uleb(0).u8(1, 1, formUdata).uleb(1 << 40),
		"without columns": le{}.u8(0).uleb(1 << 62).u8(0).uleb(1 << 62),
		"without bytes":   le{}.u8(1, 1, formFlagPresent).uleb(1 << 62),
		"implicit":        le{}.u8(1, 1, formImplicitConst).uleb(1 << 62),
	} {
		t.Run(name, func(t *testing.T) {
			header := append(le{}.u8(1, 1, 1, 0xfb, 14, 1), tables...)
			d, err := New(unitWithLines(le{}.sized(append(le{}.u16(5).u8(8, 0).u32(uint32(len(header))), header...))), nil)
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if got, _ := d.Lookup(0x1000); len(got) != 1 || got[0] != (Frame{}) {
				t.Errorf("got %+v", got)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
		})
	}
}

// TestExhausted has 20,000 functions share one list of 20,000 ranges.
func TestExhausted(t *testing.T) {
	const n = 20000
	body := le{}.u16(4).u32(0).u8(8).u8(1).u64(0x1000).u32(0x1000)
	for range n {
		body = body.u8(2).u32(0)
	}
	s := sections(Sections{
		Abbrev: le{}.u8(1, 0x11, 1, 0x11, formAddr, 0x12, formData4, 0, 0, 2, 0x2e, 0, 0x55, formSecOffset, 0, 0, 0),
		Info:   le{}.sized(body.u8(0)),
	})
	for i := range uint64(n) {
		s.Ranges = le(s.Ranges).u64(i).u64(i + 1)
	}
	d, err := New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Lookup(0x1000)
	if !errors.Is(d.Err(), errExhausted) {
		t.Errorf("got %v", d.Err())
	}
	if limit := (memoryFactor+1)*s.size() + budgetFloor + rangeBytes; d.Size() > limit {
		t.Errorf("%d bytes in memory, the limit is %d", d.Size(), limit)
	}
}

// TestNameCycle has two functions that are each other's origin.
func TestNameCycle(t *testing.T) {
	d, err := New(sections(Sections{
		Abbrev: le{}.u8(1, 0x11, 1, 0x11, formAddr, 0x12, formData4, 0, 0,
			2, 0x2e, 0, 0x31, formRef1, 0x11, formAddr, 0x12, formData4, 0, 0, 0),
		Info: le{}.sized(le{}.u16(4).u32(0).u8(8).
			u8(1).u64(0x1000).u32(0x1000).
			u8(2, 38).u64(0x1000).u32(16). // at 24
			u8(2, 24).u64(0x1010).u32(16). // at 38
			u8(0)),
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, start := d.Lookup(0x1014); len(got) != 1 || got[0] != (Frame{}) || start != 0x1010 {
		t.Errorf("got %+v, %#x", got, start)
	}
}

// TestAlternateFile takes a name from the file that .gnu_debugaltlink names, as
// dwz -m leaves it.
func TestAlternateFile(t *testing.T) {
	alt, err := New(sections(Sections{
		Abbrev: le{}.u8(1, 0x3c, 1, 0, 0, 2, 0x2e, 0, 0x03, formStrp, 0, 0, 0),
		Info:   le{}.sized(le{}.u16(4).u32(0).u8(8).u8(1).u8(2).u32(4).u8(0)), // the function at 12
		Str:    le{}.str("not").str("shared"),
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(sections(Sections{
		Abbrev: le{}.u8(1, 0x11, 1, 0x11, formAddr, 0x12, formData4, 0, 0).
			u8(2, 0x2e, 0).uleb(0x31).uleb(formGNURefAlt).u8(0x11, formAddr, 0x12, formData4, 0, 0).
			u8(3, 0x2e, 0).uleb(0x03).uleb(formGNUStrpAlt).u8(0x11, formAddr, 0x12, formData4, 0, 0, 0),
		Info: le{}.sized(le{}.u16(4).u32(0).u8(8).
			u8(1).u64(0x1000).u32(0x1000).
			u8(2).u32(12).u64(0x1000).u32(16).
			u8(3).u32(4).u64(0x1010).u32(16).
			u8(0)),
	}), alt)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[uint64]string{0x1000: "shared", 0x101f: "shared", 0x1020: ""} {
		if got, _ := d.Lookup(addr); len(got) != 1 || got[0].Name != want {
			t.Errorf("%#x: got %+v, want %q", addr, got, want)
		}
	}
}

func TestLookupOutside(t *testing.T) {
	var none *Data
	if got, _ := none.Lookup(1); got != nil || none.Size() != 0 || none.Err() != nil {
		t.Errorf("nil Data: %+v", got)
	}
	d, err := New(unitWithLines(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []uint64{0, 0xfff, 0x2000, ^uint64(0)} {
		if got, _ := d.Lookup(addr); got != nil {
			t.Errorf("%#x: got %+v", addr, got)
		}
	}
}

func FuzzLookup(f *testing.F) {
	_, s := load(f, "../../testdata/hello.elf")
	f.Add(s.Abbrev, s.Info, s.Line, s.RngLists, uint64(0x400100))
	f.Fuzz(func(t *testing.T, abbrev, info, line, ranges []byte, addr uint64) {
		fuzzed := s
		fuzzed.Abbrev, fuzzed.Info, fuzzed.Line, fuzzed.RngLists, fuzzed.Ranges = abbrev, info, line, ranges, ranges
		d, _ := New(fuzzed, nil)
		tries := []uint64{addr}
		for i := range min(len(d.code), 16) {
			tries = append(tries, d.code[i].low, d.code[i].high-1)
		}
		for _, a := range tries {
			d.Lookup(a)
		}
		if err := d.Err(); err != nil && strings.HasPrefix(err.Error(), "debugging information:") {
			t.Errorf("the last belt was needed: %v", err)
		}
		if d.Size() > (memoryFactor+1)*fuzzed.size()+2*budgetFloor {
			t.Errorf("%d bytes in memory for %d of sections", d.Size(), fuzzed.size())
		}
	})
}
