package format

import "encoding/binary"

// String returns the row of s in the string table. Beyond 64 KiB s is cut.
func (w *Writer) String(s string) StringID {
	if id, ok := w.strings[s]; ok {
		return id
	}
	if len(s) > maxString {
		return w.String(s[:maxString])
	}
	w.row = binary.AppendUvarint(w.row[:0], uint64(len(s)))
	w.row = append(w.row, s...)
	id := StringID(w.rows[tableStrings].add(w.row))
	w.strings[s] = id
	w.spill(tableStrings)
	return id
}

// Module returns the row of m in the module table.
func (w *Writer) Module(m Module) ModuleID {
	if id, ok := w.modules[m]; ok {
		return id
	}
	id := ModuleID(w.addRow(tableModules, uint64(w.String(m.Path)), uint64(w.String(m.BuildID))))
	w.modules[m] = id
	return id
}

// Frame returns the row of f in the frame table.
func (w *Writer) Frame(f Frame) FrameID {
	if id, ok := w.frames[f]; ok {
		return id
	}
	var flags uint64
	if f.Inlined {
		flags = 1
	}
	id := FrameID(w.addRow(tableFrames, uint64(f.Module), f.Offset, uint64(w.String(f.Function)),
		uint64(w.String(f.File)), uint64(f.Line), flags))
	w.frames[f] = id
	return id
}

// Symbolize names frame f, innermost first; all symbols but the last are
// inlined into the one after them. It may be called long after the frame was
// made, in place of naming the Frame itself; a later call replaces the names.
func (w *Writer) Symbolize(f FrameID, symbols []Symbol) {
	for i, s := range symbols {
		var flags uint64
		if i < len(symbols)-1 {
			flags = 1
		}
		w.addRow(tableSymbols, uint64(f), uint64(w.String(s.Function)), uint64(w.String(s.File)), uint64(s.Line), flags)
	}
}

// Stack returns the row of the stack that is frame f called from parent, which
// is 0 at the outermost frame.
func (w *Writer) Stack(parent StackID, f FrameID) StackID {
	n := StackNode{parent, f}
	if id, ok := w.stacks[n]; ok {
		return id
	}
	id := StackID(w.addRow(tableStacks, uint64(parent), uint64(f)))
	w.stacks[n] = id
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

func (w *Writer) addRow(table int, v ...uint64) uint32 {
	w.row = w.row[:0]
	for _, x := range v {
		w.row = binary.AppendUvarint(w.row, x)
	}
	id := w.rows[table].add(w.row)
	w.spill(table)
	return id
}

// spill ends the current block when the rows that wait for it get many.
func (w *Writer) spill(table int) {
	if len(w.rows[table].fresh) > maxFresh && !w.closed {
		_ = w.hand(nil) // the error is sticky; Append returns it
	}
}

// maxFresh bounds the rows of a table that wait to be written, bytes.
const maxFresh = 4 << 20
