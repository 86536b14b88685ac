package format

import (
	"encoding/binary"
	"fmt"
	"sort"
)

// A tables block is a list of sections, each a run of rows of one table:
//
//	+-----------+----------------------+-----------------+-------------------+------------------+------+
//	| table <1> | first row <uvarint>  | rows <uvarint>  | width <uvarint>   | length <uvarint> | rows |
//	+-----------+----------------------+-----------------+-------------------+------------------+------+
//
// A row of the string table is a uvarint length and the bytes; a row of any
// other table is width uvarints. A reader takes missing values as 0 and
// ignores those beyond what it knows, so that tables can gain columns.
const (
	tableStrings = iota
	tableModules // path, build id: strings; where its code is (see Module)
	tableFrames  // module, offset, function, file, line, flags (1 inlined)
	tableStacks  // parent, frame
	tableTasks   // pid, tid, space, uid, comm, start (zigzag)
	tableSymbols // frame, function, file, line, flags (1 inlined); innermost first
	tableProbes  // name, declaration (JSON), pack, role: strings
	tableEnds    // stack, the stack that it turned out to be, why that ends
	tableCount
)

var tableWidth = [tableCount]int{0, 3, 6, 2, 6, 5, 4, 3}

// tableRows collects the encoded rows of one table.
type tableRows struct {
	next  uint32 // the row that comes next
	first uint32 // the first row in fresh
	fresh []byte // rows not yet in a block
	all   []byte // every row, for the copy at the end; nil if they are too many
	many  bool
}

func (t *tableRows) add(row []byte) uint32 {
	t.fresh = append(t.fresh, row...)
	id := t.next
	t.next++
	return id
}

// appendFresh appends a section of the fresh rows, if there are any.
func (t *tableRows) appendFresh(dst []byte, table int) []byte {
	if t.next == t.first {
		return dst
	}
	dst = appendSection(dst, table, t.first, t.next-t.first, t.fresh)
	if t.many = t.many || len(t.all)+len(t.fresh) > maxCopied; t.many {
		t.all = nil
	} else {
		t.all = append(t.all, t.fresh...)
	}
	t.fresh, t.first = t.fresh[:0], t.next
	return dst
}

// maxCopied bounds the rows, as bytes, that are written once more at the end.
const maxCopied = maxRawLen / 2

func appendSection(dst []byte, table int, first, rows uint32, body []byte) []byte {
	dst = append(dst, byte(table))
	dst = binary.AppendUvarint(dst, uint64(first))
	dst = binary.AppendUvarint(dst, uint64(rows))
	dst = binary.AppendUvarint(dst, uint64(tableWidth[table]))
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...)
}

// maxRuns bounds the holes that damage can leave in a table.
const maxRuns = 4096

// rows is a table as a reader has it: runs of rows, ascending and disjoint.
// There is one run unless a tables block was damaged.
type rows[T any] struct {
	runs []run[T]
}

type run[T any] struct {
	first uint32
	rows  []T
}

// get returns row id, the zero value when it is not there.
func (t *rows[T]) get(id uint32) (v T, ok bool) {
	if len(t.runs) == 0 {
		return v, false
	}
	r := &t.runs[0]
	if len(t.runs) > 1 {
		i := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].first > id })
		if i == 0 {
			return v, false
		}
		r = &t.runs[i-1]
	}
	if id < r.first || id-r.first >= uint32(len(r.rows)) {
		return v, false
	}
	return r.rows[id-r.first], true
}

func (t *rows[T]) has(id uint32) bool {
	_, ok := t.get(id)
	return ok
}

// put adds row id and reports whether it was missing.
func (t *rows[T]) put(id uint32, v T) bool {
	i := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].first > id })
	if i > 0 {
		r := &t.runs[i-1]
		end := r.first + uint32(len(r.rows))
		if id < end {
			return false
		}
		if id == end {
			r.rows = append(r.rows, v)
			if i < len(t.runs) && t.runs[i].first == end+1 {
				r.rows = append(r.rows, t.runs[i].rows...)
				t.runs = append(t.runs[:i], t.runs[i+1:]...)
			}
			return true
		}
	}
	t.runs = append(t.runs, run[T]{})
	copy(t.runs[i+1:], t.runs[i:])
	t.runs[i] = run[T]{first: id, rows: []T{v}}
	return true
}

// ids calls yield with the number of each row, until it returns false.
func (t *rows[T]) ids(yield func(id uint32) bool) {
	for _, r := range t.runs {
		for i := range r.rows {
			if !yield(r.first + uint32(i)) {
				return
			}
		}
	}
}

// end returns the number after the last row.
func (t *rows[T]) end() uint32 {
	if len(t.runs) == 0 {
		return 0
	}
	r := &t.runs[len(t.runs)-1]
	return r.first + uint32(len(r.rows))
}

type moduleRow struct {
	path, buildID StringID
	code          uint64
}

type frameRow struct {
	module         ModuleID
	function, file StringID
	line           uint32
	offset         uint64
	inlined        bool
}

type probeRow struct{ name, declaration, pack, role StringID }

type taskRow struct {
	pid, tid, space, uid uint32
	comm                 StringID
	start                int64
}

type symbolRow struct {
	frame          FrameID
	function, file StringID
	line           uint32
	inlined        bool
}

// tables are the tables of a capture as a reader has them. Row 0 of each is
// implied.
type tables struct {
	strings rows[string]
	modules rows[moduleRow]
	frames  rows[frameRow]
	stacks  rows[StackNode]
	tasks   rows[taskRow]
	symbols rows[symbolRow]
	probes  rows[probeRow]
	ends    rows[endRow]

	// symbolsOf is the run of rows in symbols that names a frame.
	symbolsOf map[FrameID]symbolRun
	// wholeOf and endOf are what ends says, by stack; nil if it says nothing.
	wholeOf []StackID
	endOf   []StackEnd

	budget int64 // bytes that rows may still take
}

// bytes of memory that a row takes, about.
var rowCost = [tableCount]int64{16, 16, 32, 8, 40, 80, 16, 24}

// load takes every row of a tables block that is not there yet.
func (t *tables) load(payload []byte) error {
	c := cursor{b: payload}
	for len(c.b) > 0 && c.err == nil {
		table := int(c.byte())
		first, n := c.count(maxRows), c.count(maxRows)
		width := c.count(64)
		body := cursor{b: c.bytes(c.count(maxRawLen))}
		if c.err != nil {
			return fmt.Errorf("tables: %w", c.err)
		}
		if table >= tableCount {
			continue
		}
		if err := t.section(table, uint32(first), n, width, &body); err != nil {
			return fmt.Errorf("table %d, row %d and on: %w", table, first, err)
		}
	}
	return c.err
}

func (t *tables) section(table int, first uint32, n, width int, c *cursor) error {
	known := tableWidth[table]
	var v [6]uint64
	for i := range uint32(n) {
		id := first + i
		if table == tableStrings {
			s := c.bytes(c.count(maxString))
			if c.err != nil {
				return c.err
			}
			if !t.strings.has(id) {
				t.budget -= int64(len(s))
				t.strings.put(id, string(s))
				t.budget -= rowCost[table]
			}
		} else {
			if len(c.b) < width || width == 0 {
				c.fail()
				return c.err
			}
			v = [6]uint64{}
			for j := range width {
				if x := c.uvarint(); j < known {
					v[j] = x
				}
			}
			if c.err != nil {
				return c.err
			}
			if t.putRow(table, id, &v) {
				t.budget -= rowCost[table]
			}
		}
		if t.budget < 0 || t.runs() > maxRuns {
			return fmt.Errorf("%w: tables need more memory than allowed", ErrLimit)
		}
	}
	if len(c.b) != 0 {
		return fmt.Errorf("%w: %d bytes after the last row", ErrMalformed, len(c.b))
	}
	return nil
}

// runs returns the largest number of runs of a table.
func (t *tables) runs() int {
	return max(len(t.strings.runs), len(t.modules.runs), len(t.frames.runs), len(t.stacks.runs), len(t.tasks.runs),
		len(t.symbols.runs), len(t.probes.runs), len(t.ends.runs))
}

func (t *tables) putRow(table int, id uint32, v *[6]uint64) bool {
	switch table {
	case tableModules:
		return t.modules.put(id, moduleRow{StringID(v[0]), StringID(v[1]), v[2]})
	case tableFrames:
		return t.frames.put(id, frameRow{
			module: ModuleID(v[0]), offset: v[1], function: StringID(v[2]), file: StringID(v[3]),
			line: uint32(v[4]), inlined: v[5]&1 != 0,
		})
	case tableStacks:
		return t.stacks.put(id, StackNode{StackID(v[0]), FrameID(v[1])})
	case tableEnds:
		return t.ends.put(id, endRow{StackID(v[0]), StackID(v[1]), StackEnd(min(v[2], uint64(StackEnds)))})
	case tableSymbols:
		return t.symbols.put(id, symbolRow{FrameID(v[0]), StringID(v[1]), StringID(v[2]), uint32(v[3]), v[4]&1 != 0})
	case tableProbes:
		return t.probes.put(id, probeRow{StringID(v[0]), StringID(v[1]), StringID(v[2]), StringID(v[3])})
	default:
		return t.tasks.put(id, taskRow{
			pid: uint32(v[0]), tid: uint32(v[1]), space: uint32(v[2]), uid: uint32(v[3]),
			comm: StringID(v[4]), start: unzigzag(v[5]),
		})
	}
}

type symbolRun struct{ first, n uint32 }

// maxInlined bounds the symbols of a frame.
const maxInlined = 256

// indexSymbols finds the symbols of each frame. Where a frame was named twice
// the later names hold.
func (t *tables) indexSymbols() {
	t.symbolsOf = map[FrameID]symbolRun{}
	for _, r := range t.symbols.runs {
		for i := 0; i < len(r.rows); {
			j := i + 1
			for j < len(r.rows) && r.rows[j].frame == r.rows[i].frame && r.rows[j-1].inlined && j-i < maxInlined {
				j++
			}
			t.symbolsOf[r.rows[i].frame] = symbolRun{r.first + uint32(i), uint32(j - i)}
			i = j
		}
	}
}
