// Package srcline finds the source position of an address, and the functions
// that were inlined there, in DWARF 2 to 5.
//
// It is not a general DWARF reader: types, variables and locations are skipped.
// debug/dwarf was not used for three reasons. Its line reader takes the number
// of directories and files of a DWARF 5 header at its word and allocates for it
// (line.go, readHeader), so a file of 100 bytes ends the program with an
// out-of-memory error that recover cannot catch. It builds every entry with all
// its attributes, which takes five times as long (on glibc's, 677,692 entries)
// as skipping what is not asked for.
// And it cannot follow references into a .gnu_debugaltlink file, which is where
// distributions move what their debug files share.
//
// Work is lazy: opening reads one entry for each compile unit; a unit's
// functions and lines are decoded when an address first falls into it. All work
// and all memory are charged against a budget that is proportional to the size
// of the sections. Real files stay far below it; a file that makes the reader
// go over the same bytes again and again is marked damaged instead.
package srcline

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// Sections are the decompressed DWARF sections of one file. Those that are
// absent are nil.
type Sections struct {
	Abbrev, Addr, Info, Line, LineStr, Ranges, RngLists, Str, StrOffsets []byte

	Order binary.ByteOrder
}

func (s *Sections) size() int64 {
	return int64(len(s.Abbrev)) + int64(len(s.Addr)) + int64(len(s.Info)) + int64(len(s.Line)) + int64(len(s.LineStr)) +
		int64(len(s.Ranges)) + int64(len(s.RngLists)) + int64(len(s.Str)) + int64(len(s.StrOffsets))
}

// Frame is one function of an address.
type Frame struct {
	Name string // linkage name if there is one, else the plain name; may be ""
	File string // "" when unknown
	Line int    // 0 when unknown
}

// Data is the debugging information of one file. Not safe for concurrent use.
type Data struct {
	s       Sections
	big     bool
	alt     *Data
	units   []unit // by offset
	code    []unitRange
	abbrevs map[abbrevKey]*abbrevTable
	names   map[int]string // by entry offset
	work    int64          // bytes that may still be looked at
	memory  int64          // bytes that may still be taken
	taken   int64
	err     error

	open       Opener
	splits     []*Data
	splitBytes int64 // of their own sections
}

// unitRange is a piece of a unit's code.
type unitRange struct {
	low, high uint64
	unit      int32
}

var (
	errExhausted = errors.New("the debugging information refers to itself too often")
	errTruncated = errors.New("unexpected end of section")
)

const (
	workFactor   = 32       // times the size of all sections
	memoryFactor = 8        // likewise
	budgetFloor  = 64 << 10 // bytes, for tiny files
	maxOverlap   = 64       // overlapping ranges looked at for one address
	maxHops      = 16       // references followed to find a name
	maxString    = 64 << 10 // bytes of a name or path
)

// New reads the unit headers. alt is the file named by .gnu_debugaltlink, or
// nil. The error tells of damage; the data that it comes with, if any, holds
// the units before the damage.
func New(s Sections, alt *Data) (d *Data, err error) {
	size := s.size()
	d = &Data{
		s:       s,
		big:     s.Order == binary.BigEndian,
		alt:     alt,
		abbrevs: make(map[abbrevKey]*abbrevTable),
		names:   make(map[int]string),
		work:    workFactor*size + budgetFloor,
		memory:  memoryFactor*size + budgetFloor,
	}
	defer d.recovered(&err)
	d.readUnits()
	slices.SortFunc(d.code, func(a, b unitRange) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(b.high, a.high))
	})
	return d, d.err
}

// Err returns the first damage met, or nil.
func (d *Data) Err() error {
	if d == nil {
		return nil
	}
	return d.err
}

// Size returns the bytes of memory in use, the sections included.
func (d *Data) Size() int64 {
	if d == nil {
		return 0
	}
	size := d.s.size() + d.taken + d.alt.Size() + d.splitBytes
	for _, part := range d.splits {
		size += part.taken
	}
	return size
}

// recovered is the last belt: a bug here must not end a recording.
func (d *Data) recovered(err *error) {
	if p := recover(); p != nil {
		d.fail(fmt.Errorf("debugging information: %v", p))
	}
	*err = d.err
}

func (d *Data) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// spend charges n bytes of work and reports whether there is budget left.
func (d *Data) spend(n int) bool {
	d.work -= int64(n)
	if d.work < 0 {
		d.fail(errExhausted)
		return false
	}
	return true
}

// grow charges n bytes of memory and reports whether there is budget left. Once
// there is none, no work is done either.
func (d *Data) grow(n int) bool {
	if d.taken+int64(n) > d.memory {
		d.work = -1
		d.fail(errExhausted)
		return false
	}
	d.taken += int64(n)
	return true
}

// Lookup returns the frames at an address, innermost first. All but the last
// are inlined. The last one's Name is "" where the file has lines for the
// address but no function, as for assembly. start is where the last one's
// function begins, or 0. It returns nil where no unit holds the address.
func (d *Data) Lookup(addr uint64) (frames []Frame, start uint64) {
	if d == nil {
		return nil, 0
	}
	var err error
	defer d.recovered(&err)
	u := d.unitOf(addr)
	if u == nil {
		return nil, 0
	}
	var at Frame
	at.File, at.Line = d.linesOf(u).find(addr)
	from, part := d.splitOf(u)
	chain, start := from.functionsOf(part).find(addr)
	if from.err != nil {
		d.fail(fmt.Errorf("split unit at %#x: %w", u.off, from.err))
	}
	if len(chain) == 0 {
		return []Frame{at}, 0
	}
	frames = make([]Frame, 0, len(chain))
	for _, f := range slices.Backward(chain) {
		at.Name = from.nameOf(f.entry, 0)
		frames = append(frames, at)
		at = Frame{File: d.linesOf(u).path(uint64(f.callFile)), Line: int(f.callLine)}
	}
	return frames, start
}

// unitOf returns the unit whose code holds addr, or nil.
func (d *Data) unitOf(addr uint64) *unit {
	i := sort.Search(len(d.code), func(i int) bool { return d.code[i].low > addr }) - 1
	for stop := max(i-maxOverlap, -1); i > stop; i-- {
		if addr < d.code[i].high {
			return &d.units[d.code[i].unit]
		}
	}
	return nil
}
