package unwind

import (
	"encoding/binary"
	"slices"
	"sort"
	"unsafe"
)

// table is the call frame information of one section: .eh_frame, which is in
// memory, or .debug_frame, which is for debuggers.
//
// Entries (FDE) are found through the linker's own search table in
// .eh_frame_hdr, so that a large program costs nothing when it is opened; where
// there is none, the section is read through once. An entry is decoded when an
// address in it is asked for, and what it says of that address is kept by the
// module: a stack is made of few addresses, a program of many.
type table struct {
	data  []byte
	base  bases
	debug bool // .debug_frame

	search  []byte // pairs of 32 bits from .eh_frame_hdr: code, entry; relative to searchAt
	codeAt  uint64
	entryAt uint64 // what turns the second number into an offset in data
	index   []entryRef
}

// entryRef is an entry of a section that was read through.
type entryRef struct {
	start uint64
	off   uint64
}

// description is a CIE: what entries share.
type description struct {
	codeAlign    uint64
	dataAlign    int64
	returnReg    uint8
	encoding     byte // of pointers to code
	augmented    bool // entries have a length of augmentation data
	signal       bool
	instructions cursor
}

func (d *description) flags() byte {
	if d.signal {
		return 1
	}
	return 0
}

// entry is an FDE.
type entry struct {
	start, end   uint64 // of the code
	description  description
	instructions cursor
}

// record is what FDE and CIE begin with.
type record struct {
	body cursor // after the length and the pointer
	cie  bool
	from uint64 // offset of the CIE, of an FDE
	next uint64 // offset of the next record
}

// maxIndex bounds the entries of a section without a search table.
const maxIndex = 1 << 23

// record reads the head of the one at off. ok is false at the end mark.
func (t *table) record(off uint64) (r record, ok bool, err error) {
	if off >= uint64(len(t.data)) {
		return r, false, nil
	}
	c := cursor{b: t.data, at: int(off)}
	length, wide := uint64(c.u32()), false
	if length == 0xffffffff {
		length, wide = c.u64(), true
	}
	if c.bad || length > uint64(len(t.data)-c.at) {
		return r, false, damaged("record at %#x is longer than its section", off)
	}
	if length == 0 {
		r.next = uint64(c.at)
		return r, false, nil
	}
	r.next = uint64(c.at) + length
	at := uint64(c.at)
	c.b = t.data[:r.next]
	var id uint64
	if wide && t.debug {
		id = c.u64()
	} else {
		id = uint64(c.u32()) // in .eh_frame 4 bytes even then (LSB 5, 10.6.1; LLVM's libunwind)
	}
	if c.bad {
		return r, false, damaged("record at %#x is cut off", off)
	}
	switch {
	case t.debug:
		r.cie = id == 0xffffffff && !wide || id == ^uint64(0)
		r.from = id
	case id == 0:
		r.cie = true
	case id > at:
		return r, false, damaged("record at %#x points before its section", off)
	default:
		r.from = at - id
	}
	r.body = c
	return r, true, nil
}

// describe reads a CIE.
func (t *table) describe(off uint64) (d description, err error) {
	r, ok, err := t.record(off)
	if err != nil || !ok || !r.cie {
		return d, damaged("no CIE at %#x", off)
	}
	c := r.body
	version := c.u8()
	augmentation := c.str()
	if version != 1 && version != 3 && version != 4 {
		return d, damaged("CIE of version %d", version)
	}
	if version == 4 {
		if size, segment := c.u8(), c.u8(); size != 8 || segment != 0 {
			return d, damaged("CIE of addresses of %d+%d bytes", size, segment)
		}
	}
	if augmentation == "eh" {
		c.u64() // GCC 2: a pointer of its own
		augmentation = ""
	}
	d.codeAlign = c.uleb()
	d.dataAlign = c.sleb()
	returnReg := uint64(0)
	if version == 1 {
		returnReg = uint64(c.u8())
	} else {
		returnReg = c.uleb()
	}
	d.encoding = peAbs
	end := uint64(len(c.b))
	for i, letter := range []byte(augmentation) {
		switch letter {
		case 'z':
			if i != 0 {
				return d, damaged("augmentation %q", augmentation)
			}
			d.augmented = true
			end = c.uleb() // what follows is skipped, understood or not
			if end > uint64(len(c.b)-c.at) {
				return d, damaged("augmentation data")
			}
			end += uint64(c.at)
		case 'R':
			d.encoding = c.u8()
		case 'P':
			c.pointer(c.u8(), &t.base)
		case 'L':
			c.u8()
		case 'S':
			d.signal = true
		case 'B', 'G': // signed with key B; tagged memory
		default:
			if !d.augmented {
				return d, damaged("augmentation %q", augmentation)
			}
		}
	}
	if c.bad || returnReg >= maxRegs {
		return d, damaged("CIE at %#x", off)
	}
	d.returnReg = uint8(returnReg)
	if d.augmented {
		c.at = int(end)
	}
	d.instructions = c
	return d, nil
}

// entry reads an FDE.
func (t *table) entry(off uint64) (e entry, err error) {
	r, ok, err := t.record(off)
	if err != nil {
		return e, err
	}
	if !ok || r.cie {
		return e, damaged("no entry at %#x", off)
	}
	if e.description, err = t.describe(r.from); err != nil {
		return e, err
	}
	c := r.body
	start, ok := c.pointer(e.description.encoding, &t.base)
	length, _ := c.pointer(e.description.encoding&0x0f, &t.base)
	if e.description.augmented {
		c.take(c.uleb())
	}
	if c.bad || !ok || start+length < start {
		return e, damaged("entry at %#x", off)
	}
	e.start, e.end, e.instructions = start, start+length, c
	return e, nil
}

// scan makes the index of a section that has no search table. On an error, the
// entries before it are there.
func (t *table) scan() error {
	var err error
	for off := uint64(0); off < uint64(len(t.data)) && len(t.index) < maxIndex; {
		var r record
		var ok bool
		if r, ok, err = t.record(off); err != nil {
			break
		}
		if ok && !r.cie {
			// The entries of code that the linker dropped start at 0.
			if e, bad := t.entry(off); bad != nil {
				err = bad
			} else if e.start != 0 && e.end > e.start {
				t.index = append(t.index, entryRef{e.start, off})
			}
		}
		off = r.next
	}
	slices.SortStableFunc(t.index, func(a, b entryRef) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	return err
}

// find returns the entry that holds pc.
func (t *table) find(pc uint64) (e entry, ok bool, err error) {
	off, ok := t.locate(pc)
	if !ok {
		return e, false, nil
	}
	if e, err = t.entry(off); err != nil {
		return e, false, err
	}
	return e, e.start <= pc && pc < e.end, nil
}

func (t *table) rule(pc uint64, m *Module) (*rule, error) { return m.u.machine.decode(t, pc, m) }

func (t *table) bytes() int64 {
	return int64(len(t.data)+len(t.search)) + int64(len(t.index))*int64(unsafe.Sizeof(entryRef{}))
}

// locate returns the offset of the last entry that starts at or before pc.
func (t *table) locate(pc uint64) (off uint64, ok bool) {
	if t.search != nil {
		rel := int64(pc - t.codeAt)
		code := func(i int) int64 { return int64(int32(binary.LittleEndian.Uint32(t.search[8*i:]))) }
		i := sort.Search(len(t.search)/8, func(i int) bool { return code(i) > rel }) - 1
		if i < 0 {
			return 0, false
		}
		return uint64(int64(int32(binary.LittleEndian.Uint32(t.search[8*i+4:])))) + t.entryAt, true
	}
	i := sort.Search(len(t.index), func(i int) bool { return t.index[i].start > pc }) - 1
	if i < 0 {
		return 0, false
	}
	return t.index[i].off, true
}

// searchTable reads .eh_frame_hdr (LSB 5, Core, 10.6.2), whose first byte is at
// addr. It returns the address of .eh_frame and the pairs, nil unless they are
// of the one form that linkers write.
func searchTable(data []byte, addr uint64) (frames uint64, pairs []byte, ok bool) {
	c := cursor{b: data}
	version, frameEnc, countEnc, tableEnc := c.u8(), c.u8(), c.u8(), c.u8()
	base := bases{section: addr, data: addr}
	frames, ok = c.pointer(frameEnc, &base)
	if version != 1 || !ok {
		return 0, nil, false
	}
	count, ok := c.pointer(countEnc, &base)
	if !ok || tableEnc != peDataRel|peS4 || count == 0 || count > uint64(len(data)-c.at)/8 {
		return frames, nil, true
	}
	return frames, data[c.at : c.at+int(8*count)], true
}
