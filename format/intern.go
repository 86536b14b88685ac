package format

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// An interner numbers the rows of the tables and encodes those that are net.
type interner struct {
	strings map[string]StringID
	modules map[Module]ModuleID
	frames  map[Frame]FrameID
	stacks  map[StackNode]StackID
	rows    [tableCount]tableRows

	// A recording of hours may have ever new stacks. So they are known for two
	// generations of this many rows, 0 for ever: a stack that was not
	// used for one gets another row when it comes again.
	stackLimit int
	oldStacks  map[StackNode]StackID
	row        []byte
	full       func() // called when the rows that wait to be written get many
}

func newInterner() interner {
	t := interner{
		strings: map[string]StringID{"": 0},
		modules: map[Module]ModuleID{{}: 0},
		frames:  map[Frame]FrameID{},
		stacks:  map[StackNode]StackID{},
	}
	for i := range t.rows {
		t.rows[i].next, t.rows[i].first = 1, 1
	}
	return t
}

// String returns the row of s in the string table. Beyond 64 KiB s is cut.
func (t *interner) String(s string) StringID {
	if id, ok := t.strings[s]; ok {
		return id
	}
	if len(s) > maxString {
		return t.String(s[:maxString])
	}
	t.row = binary.AppendUvarint(t.row[:0], uint64(len(s)))
	t.row = append(t.row, s...)
	id := StringID(t.rows[tableStrings].add(t.row))
	t.strings[s] = id
	t.spill(tableStrings)
	return id
}

// Module returns the row of m in the module table.
func (t *interner) Module(m Module) ModuleID {
	if id, ok := t.modules[m]; ok {
		return id
	}
	id := ModuleID(t.addRow(tableModules, uint64(t.String(m.Path)), uint64(t.String(m.BuildID)), m.code))
	t.modules[m] = id
	return id
}

// Frame returns the row of f in the frame table.
func (t *interner) Frame(f Frame) FrameID {
	if id, ok := t.frames[f]; ok {
		return id
	}
	var flags uint64
	if f.Inlined {
		flags = 1
	}
	id := FrameID(t.addRow(tableFrames, uint64(f.Module), f.Offset, uint64(t.String(f.Function)),
		uint64(t.String(f.File)), uint64(f.Line), flags))
	t.frames[f] = id
	return id
}

// Symbolize names frame f, innermost first; all symbols but the last are
// inlined into the one after them. It may be called long after the frame was
// made, in place of naming the Frame itself; a later call replaces the names.
func (t *interner) Symbolize(f FrameID, symbols []Symbol) {
	for i, s := range symbols {
		var flags uint64
		if i < len(symbols)-1 {
			flags = 1
		}
		t.addRow(tableSymbols, uint64(f), uint64(t.String(s.Function)), uint64(t.String(s.File)), uint64(s.Line), flags)
	}
}

// Stack returns the row of the stack that is frame f called from parent, which
// is 0 at the outermost frame.
func (t *interner) Stack(parent StackID, f FrameID) StackID {
	n := StackNode{parent, f}
	if id, ok := t.stacks[n]; ok {
		return id
	}
	id, ok := t.oldStacks[n]
	if !ok {
		id = StackID(t.addRow(tableStacks, uint64(parent), uint64(f)))
	}
	if t.stackLimit > 0 && len(t.stacks) >= t.stackLimit {
		t.oldStacks, t.stacks = t.stacks, map[StackNode]StackID{}
	}
	t.stacks[n] = id
	return id
}

// Task returns the row of t in the task table.
func (w *Writer) Task(t Task) TaskID {
	if id, ok := w.tasks[t]; ok {
		return id
	}
	id := TaskID(w.addRow(tableTasks, uint64(t.Pid), uint64(t.Tid), uint64(t.Space), uint64(t.Uid),
		uint64(w.String(t.Comm)), zigzag(t.Start)))
	w.tasks[t] = id
	w.spaces = append(w.spaces, t.Space)
	return id
}

func (t *interner) addRow(table int, v ...uint64) uint32 {
	t.row = t.row[:0]
	for _, x := range v {
		t.row = binary.AppendUvarint(t.row, x)
	}
	id := t.rows[table].add(t.row)
	t.spill(table)
	return id
}

func (t *interner) spill(table int) {
	if len(t.rows[table].fresh) > maxFresh {
		t.full()
	}
}

// maxFresh bounds the rows of a table that wait to be written, bytes.
const maxFresh = 4 << 20

// since yields the frames from row first on, by their number.
func (t *interner) since(first FrameID) []NewFrame {
	var out []NewFrame
	for f, id := range t.frames {
		if id >= first {
			out = append(out, NewFrame{id, f})
		}
	}
	slices.SortFunc(out, func(a, b NewFrame) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// load takes over the rows of a capture, whose numbers the next ones follow.
func (t *interner) load(known *tables) error {
	for _, r := range known.strings.runs {
		for i, v := range r.rows {
			if _, ok := t.strings[v]; !ok {
				t.strings[v] = StringID(r.first + uint32(i))
			}
		}
	}
	name := func(id StringID) string { v, _ := known.strings.get(uint32(id)); return v }
	for _, r := range known.modules.runs {
		for i, v := range r.rows {
			t.modules[Module{Path: name(v.path), BuildID: name(v.buildID), code: v.code}] = ModuleID(r.first + uint32(i))
		}
	}
	for _, r := range known.frames.runs {
		for i, v := range r.rows {
			f := Frame{Module: v.module, Offset: v.offset, Function: name(v.function), File: name(v.file), Line: v.line, Inlined: v.inlined}
			t.frames[f] = FrameID(r.first + uint32(i))
		}
	}
	for _, r := range known.stacks.runs {
		for i, v := range r.rows {
			if id := StackID(r.first + uint32(i)); !known.standsForAnother(id, v) {
				t.stacks[v] = id
			}
		}
	}
	ends := [tableCount]uint32{
		known.strings.end(), known.modules.end(), known.frames.end(), known.stacks.end(), known.tasks.end(), known.symbols.end(), known.probes.end(),
		known.ends.end(),
	}
	for table, end := range ends {
		const room = 1 << 24 // for rows to come
		if end > maxRows-room {
			return fmt.Errorf("%w: table %d has rows up to %d", ErrLimit, table, end)
		}
		next := max(end, 1)
		t.rows[table].next, t.rows[table].first = next, next
	}
	return nil
}
