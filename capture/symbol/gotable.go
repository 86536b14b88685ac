package symbol

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// goTable is .gopclntab, a Go program's own table of functions and lines, which
// stripping leaves in place. What was inlined is told elsewhere; where that is not
// found, the line is that of the inlined code, the function the one that holds it.
//
// debug/gosym was not used because it builds the name of every function when it
// is opened: 200 bytes each in a sound file, and in a crafted one, where names
// overlap, the square of its size.
//
// The format is that of Go 1.16 and later (runtime/symtab.go, pcHeader, _func).
type goTable struct {
	order                               binary.ByteOrder
	text                                uint64 // address of runtime.text
	quantum                             uint64 // of instruction lengths
	field                               int    // bytes of an entry of funcs
	names, units, files, values, tables []byte
	all                                 []byte // of which these are parts
	addr, namesAt                       uint64 // of all, and of names in it
	pointer                             int    // bytes
	trees                               bool   // functions have trees of inlined calls as goInlined knows them
	inlined                             goInlined
	count                               int // of functions
	flags                               int // where _func has them; 0 for Go versions before 1.18
	size                                int64
}

const (
	goMagic116 = 0xfffffffa
	goMagic118 = 0xfffffff0
	goMagic120 = 0xfffffff1
)

var errGoTable = errors.New("read .gopclntab: damaged, or of a Go before 1.16")

// readGoTable returns nil where there is none.
func readGoTable(f *elf.File, limit int64) (*goTable, error) {
	var data []byte
	var err error
	var name string
	for _, name = range []string{".gopclntab", ".data.rel.ro.gopclntab"} { // the second in some PIE
		if data, err = sectionData(f, name, limit); data != nil || err != nil {
			break
		}
	}
	text := f.Section(".text")
	if data == nil || text == nil || err != nil {
		return nil, err
	}
	t, err := newGoTable(data, f.ByteOrder, text.Addr)
	if err != nil {
		return nil, err
	}
	t.addr = f.Section(name).Addr
	return t, t.readModuleData(f, limit)
}

// newGoTable reads the header. text is where .text starts.
func newGoTable(data []byte, order binary.ByteOrder, text uint64) (*goTable, error) {
	if len(data) < 8+8*8 {
		return nil, errGoTable
	}
	t := &goTable{order: order, text: text, quantum: uint64(data[6]), field: 4, all: data, size: int64(len(data))}
	pointer := int(data[7])
	t.pointer = pointer
	if pointer != 4 && pointer != 8 {
		return nil, errGoTable
	}
	word := func(i int) uint64 { return t.uint(data[8+i*pointer:], pointer) }
	next := 3 // the first field after nfunc, nfiles and textStart
	switch magic := order.Uint32(data); magic {
	case goMagic118, goMagic120:
		if t.flags = 37; magic == goMagic120 {
			t.flags, t.trees = 41, true // the first line comes before it
		}
		// In a program linked by the C linker, its start-up code comes
		// before runtime.text; the header told where until Go 1.25,
		// unless the program is position-independent; after that,
		// runtime.firstmoduledata does.
		if start := word(2); start != 0 {
			t.text = start
		}
	case goMagic116:
		next, t.field, t.text = 2, pointer, 0
	default:
		return nil, fmt.Errorf("%w: magic %#x", errGoTable, order.Uint32(data))
	}
	t.namesAt = word(next)
	for i, part := range []*[]byte{&t.names, &t.units, &t.files, &t.values, &t.tables} {
		at := word(next + i)
		if at > uint64(len(data)) {
			return nil, errGoTable
		}
		*part = data[at:]
	}
	if n := word(0); n < uint64(len(t.tables)/(2*t.field)) {
		t.count = int(n)
		return t, nil
	}
	return nil, errGoTable
}

// uint reads a number of 4 or 8 bytes, 0 past the end.
func (t *goTable) uint(b []byte, size int) uint64 {
	switch {
	case len(b) < size:
		return 0
	case size == 8:
		return t.order.Uint64(b)
	}
	return uint64(t.order.Uint32(b))
}

// entry returns the address of function i; that of count is the end.
func (t *goTable) entry(i int) uint64 {
	return t.text + t.uint(t.tables[2*i*t.field:], t.field)
}

// function returns the _func that holds addr, as if its first field had 4 bytes
// in all versions, with at least 40, and its address; nil if there is none.
func (t *goTable) function(addr uint64) (f []byte, start uint64) {
	i := sort.Search(t.count, func(i int) bool { return t.entry(i) > addr }) - 1
	if i < 0 {
		return nil, 0
	}
	at := t.uint(t.tables[(2*i+1)*t.field:], t.field)
	if at > uint64(len(t.tables)) || uint64(len(t.tables))-at < 44 {
		return nil, 0
	}
	return t.tables[at:][t.field-4:], t.entry(i)
}

// lookup returns the frames of addr as [Module.Resolve] does, nil where it knows
// nothing; back is how far the address asked for lies behind it.
func (t *goTable) lookup(addr, back uint64) []Frame {
	if t == nil || t.count == 0 || addr >= t.entry(t.count) {
		return nil
	}
	const nameAt = 4 // in _func
	f, start := t.function(addr)
	if f == nil {
		return nil
	}
	frames, at := t.inlined.frames(t, f, start, addr)
	outer := Frame{Function: tableString(t.names, t.uint(f[nameAt:], 4))}
	outer.File, outer.Line = t.line(f, start, at)
	frames = append(frames, outer)
	for i := range frames {
		frames[i].Offset = addr + back - start
	}
	return frames
}

// line returns the file and line of an address in a function, as far as known.
func (t *goTable) line(f []byte, start, addr uint64) (file string, line int) {
	const fileAt, lineAt, unitAt = 20, 24, 32 // in _func
	if n, ok := t.value(t.uint(f[lineAt:], 4), start, addr); ok && n > 0 {
		line = int(n)
	}
	if number, ok := t.value(t.uint(f[fileAt:], 4), start, addr); ok && number >= 0 {
		entry := 4 * (t.uint(f[unitAt:], 4) + uint64(number))
		if entry+4 <= uint64(len(t.units)) {
			file = tableString(t.files, t.uint(t.units[entry:], 4))
		}
	}
	return file, line
}

// maxValueBytes bounds the table of one function.
const maxValueBytes = 4 << 20

// value looks addr up in a table of values by program counter: pairs of
// differences, of the value (zigzag) and of the counter, from -1 and start.
func (t *goTable) value(off, start, addr uint64) (int32, bool) {
	if off == 0 || off >= uint64(len(t.values)) {
		return 0, false
	}
	value, pc := int32(-1), start
	for b := t.values[off:min(off+maxValueBytes, uint64(len(t.values)))]; ; {
		delta, n := binary.Uvarint(b)
		if n <= 0 || delta == 0 && pc != start {
			return 0, false
		}
		step, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return 0, false
		}
		b = b[n+m:]
		value += int32(delta>>1) ^ -int32(delta&1)
		if pc += step * t.quantum; addr < pc {
			return value, true
		}
	}
}

// tableString returns the string at an offset, cut at maxNameBytes.
func tableString(table []byte, off uint64) string {
	if off >= uint64(len(table)) {
		return ""
	}
	b := table[off:min(off+maxNameBytes, uint64(len(table)))]
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
