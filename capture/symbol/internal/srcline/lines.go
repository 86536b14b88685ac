package srcline

import (
	"cmp"
	"path"
	"slices"
	"sort"
)

// lines is the decoded line table of one unit.
type lines struct {
	rows    []row // of all sequences, by address within each
	seqs    []sequence
	dirs    [][]byte
	files   []file
	paths   map[uint64]string // of files, once asked for
	compDir string
	first   uint64 // number of the first file: 0 from DWARF 5 on, 1 before
}

type row struct {
	addr uint64
	line uint32
	file uint32
}

// sequence is a run of rows without gaps.
type sequence struct {
	low, high uint64
	from, to  int // in rows
}

type file struct {
	name []byte
	dir  uint64
}

// Opcodes of line number programs (DWARF 5, 7.22).
const (
	lnsCopy           = 1
	lnsAdvancePC      = 2
	lnsAdvanceLine    = 3
	lnsSetFile        = 4
	lnsConstAddPC     = 8
	lnsFixedAdvancePC = 9
	lneEndSequence    = 1
	lneSetAddress     = 2
	lneDefineFile     = 3
	lnctPath          = 1
	lnctDirectory     = 2
	rowBytes          = 16
	fileBytes         = 32
)

// lineHeader is what running the program takes from its header.
type lineHeader struct {
	minInst       uint64
	lineBase      int64
	lineRange     uint64
	opcodeBase    uint8
	opcodeLengths []byte
	addrSize      int
}

// linesOf returns the unit's line table, decoding it when first asked.
func (d *Data) linesOf(u *unit) *lines {
	if u.positions == nil {
		u.positions = &lines{paths: make(map[uint64]string), compDir: string(d.text(u, u.compDir))}
		if u.lines.form != 0 {
			d.readLines(u, u.positions)
		}
	}
	return u.positions
}

func (d *Data) readLines(u *unit, l *lines) {
	c := d.at(d.s.Line, u.lines.num)
	length, dwarf64 := c.initialLength()
	if c.bad || length > uint64(c.left()) {
		d.fail(errTruncated)
		return
	}
	c.data = c.data[:c.pos+int(length)]
	// Forms in the header have the sizes of the table, not of the unit.
	format := unit{version: uint16(c.uint(2)), dwarf64: dwarf64, addrSize: u.addrSize, strBase: u.strBase}
	if format.version < 2 || format.version > 5 {
		return
	}
	if format.version >= 5 {
		format.addrSize = c.u8()
		c.skip(1) // segment selector size
	}
	headerLength := c.uint(format.offsetSize())
	if c.bad || headerLength > uint64(c.left()) || format.addrSize == 0 || format.addrSize > 8 || !d.spend(int(length)) {
		d.fail(errTruncated)
		return
	}
	program := c
	program.skip(headerLength)
	h := lineHeader{minInst: uint64(c.u8()), addrSize: int(format.addrSize)}
	if format.version >= 4 {
		c.skip(1) // operations per instruction: 1 but on VLIW machines
	}
	c.skip(1) // default of is_stmt
	h.lineBase, h.lineRange, h.opcodeBase = int64(int8(c.u8())), uint64(c.u8()), c.u8()
	if h.opcodeBase > 0 {
		h.opcodeLengths = c.take(uint64(h.opcodeBase) - 1)
	}
	if format.version >= 5 {
		d.readFiles(&format, &c, l)
	} else {
		l.first = 1
		d.readOldFiles(&c, l)
	}
	if c.bad || h.lineRange == 0 {
		d.fail(errTruncated)
		return
	}
	d.runLines(&program, &h, l)
	slices.SortFunc(l.seqs, func(a, b sequence) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(b.high, a.high))
	})
}

// readOldFiles reads the tables of DWARF 2 to 4, each up to an empty name.
func (d *Data) readOldFiles(c *cursor, l *lines) {
	for d.grow(fileBytes) {
		dir := c.cstring()
		if len(dir) == 0 {
			break
		}
		l.dirs = append(l.dirs, dir)
	}
	for d.grow(fileBytes) {
		name := c.cstring()
		if len(name) == 0 {
			break
		}
		l.files = append(l.files, file{name, c.uleb()})
		c.skipLEB() // time
		c.skipLEB() // size
	}
}

// readFiles reads the tables of DWARF 5, which describe their own columns.
func (d *Data) readFiles(format *unit, c *cursor, l *lines) {
	d.readTable(format, c, func(f file) { l.dirs = append(l.dirs, f.name) })
	d.readTable(format, c, func(f file) { l.files = append(l.files, f) })
}

func (d *Data) readTable(format *unit, c *cursor, add func(file)) {
	type column struct {
		content uint64
		attr    attr
	}
	columns := make([]column, c.u8())
	for i := range columns {
		columns[i].content = c.uleb()
		form := c.uleb()
		if n := format.formSize(uint16(form)); form > 0xffff || n == 0 || n == sizeUnknown {
			c.fail() // a form without bytes would let a count run free
			return
		}
		columns[i].attr.form = uint16(form)
	}
	count := c.uleb()
	if len(columns) == 0 {
		return
	}
	for ; count > 0 && !c.bad && d.grow(fileBytes); count-- {
		var f file
		for _, col := range columns {
			v := format.readForm(c, col.attr)
			switch col.content {
			case lnctPath:
				f.name = d.text(format, v)
			case lnctDirectory:
				f.dir = v.num
			}
		}
		if !c.bad {
			add(f)
		}
	}
}

// runLines runs a line number program and keeps its rows.
func (d *Data) runLines(c *cursor, h *lineHeader, l *lines) {
	state := row{line: 1, file: 1}
	from := len(l.rows)
	constAdd := uint64(255-h.opcodeBase) / h.lineRange * h.minInst
	for c.left() > 0 {
		op := c.u8()
		switch {
		case op >= h.opcodeBase:
			adjusted := uint64(op - h.opcodeBase)
			state.addr += adjusted / h.lineRange * h.minInst
			state.line += uint32(h.lineBase + int64(adjusted%h.lineRange))
			if !d.addRow(l, state, from) {
				return
			}
		case op == 0:
			ended := d.extendedLine(c, h, l, &state)
			if ended {
				l.endSequence(from, state.addr)
				state, from = row{line: 1, file: 1}, len(l.rows)
			}
		case op == lnsCopy:
			if !d.addRow(l, state, from) {
				return
			}
		case op == lnsAdvancePC:
			state.addr += c.uleb() * h.minInst
		case op == lnsAdvanceLine:
			state.line += uint32(c.sleb())
		case op == lnsSetFile:
			state.file = uint32(min(c.uleb(), 1<<32-1))
		case op == lnsConstAddPC:
			state.addr += constAdd
		case op == lnsFixedAdvancePC:
			state.addr += c.uint(2)
		default:
			for range h.opcodeLengths[op-1] {
				c.skipLEB()
			}
		}
	}
	l.rows = l.rows[:from] // of a sequence without an end
}

// addRow appends a row; of several for one address, the last is right.
func (d *Data) addRow(l *lines, r row, from int) bool {
	if n := len(l.rows); n > from && l.rows[n-1].addr == r.addr {
		l.rows[n-1] = r
		return true
	}
	l.rows = append(l.rows, r)
	return d.grow(rowBytes)
}

// extendedLine runs an extended opcode and reports the end of a sequence.
func (d *Data) extendedLine(c *cursor, h *lineHeader, l *lines, state *row) bool {
	length := c.uleb()
	if length == 0 || length > uint64(c.left()) {
		c.fail()
		return false
	}
	body := cursor{data: c.data[:c.pos+int(length)], pos: c.pos, big: c.big}
	c.pos += int(length)
	switch body.u8() {
	case lneEndSequence:
		return true
	case lneSetAddress:
		state.addr = body.uint(min(h.addrSize, body.left()))
	case lneDefineFile:
		name := body.cstring()
		if dir := body.uleb(); !body.bad && d.grow(fileBytes) {
			l.files = append(l.files, file{name, dir})
		}
	}
	return false
}

// endSequence keeps the rows from one on, unless the linker dropped their code
// and left them at address 0.
func (l *lines) endSequence(from int, end uint64) {
	rows := l.rows[from:]
	byAddr := func(a, b row) int { return cmp.Compare(a.addr, b.addr) }
	if !slices.IsSortedFunc(rows, byAddr) {
		slices.SortStableFunc(rows, byAddr)
	}
	if len(rows) == 0 || rows[0].addr == 0 || rows[0].addr >= end {
		l.rows = l.rows[:from]
		return
	}
	l.seqs = append(l.seqs, sequence{rows[0].addr, end, from, len(l.rows)})
}

// find returns the position of an address.
func (l *lines) find(addr uint64) (string, int) {
	i := sort.Search(len(l.seqs), func(i int) bool { return l.seqs[i].low > addr }) - 1
	for stop := max(i-maxOverlap, -1); i > stop; i-- {
		if s := l.seqs[i]; addr < s.high {
			rows := l.rows[s.from:s.to]
			n := sort.Search(len(rows), func(n int) bool { return rows[n].addr > addr }) - 1
			return l.path(uint64(rows[n].file)), int(rows[n].line)
		}
	}
	return "", 0
}

// path returns the absolute path of a file number, "" if there is no such file.
func (l *lines) path(number uint64) string {
	index := number - l.first
	if index >= uint64(len(l.files)) {
		return ""
	}
	if p, ok := l.paths[number]; ok {
		return p
	}
	f := l.files[index]
	p := string(f.name[:min(len(f.name), maxString)])
	if !path.IsAbs(p) {
		// Directory 0 is the compilation's: an entry of the table from
		// DWARF 5 on, implied before. Others are relative to it.
		dir := f.dir - l.first
		if dir < uint64(len(l.dirs)) {
			p = path.Join(string(l.dirs[dir][:min(len(l.dirs[dir]), maxString)]), p)
		}
		if !path.IsAbs(p) && !(l.first == 0 && dir == 0) {
			p = path.Join(l.compDir, p)
		}
	}
	p = path.Clean(p)
	l.paths[number] = p
	return p
}
