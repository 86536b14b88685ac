package format

// A StackEnd says why a stack has no more frames.
type StackEnd uint8

// Ends of stacks. Their numbers are on the wire.
const (
	EndUnknown  StackEnd = iota // nothing was said of it
	EndComplete                 // at the start of the process or the thread
	EndCopy                     // there is more than was copied of the stack
	EndNoRule                   // in code that nothing describes how to unwind
	EndNoCode                   // at a return address where no code is known
	EndMisfit                   // what describes the code does not fit the stack
	EndSwitched                 // at code that came from another stack
	EndLimit                    // there are more frames than can be told
	EndDropped                  // it was not unwound, for want of memory, or since its copy was taken out
	EndWaiting                  // it was not unwound yet: `tcap symbolize` can
	StackEnds                   // how many there are
)

var stackEnds = [StackEnds]string{
	"unknown", "complete", "copy", "no_unwind_info", "no_code", "misfit", "switched", "limit", "dropped", "waiting",
}

// String returns the end's name, as in JSON.
func (e StackEnd) String() string {
	if e >= StackEnds {
		return stackEnds[EndUnknown]
	}
	return stackEnds[e]
}

// An endRow says what a stack turned out to be: another row, perhaps itself.
type endRow struct {
	stack, whole StackID
	end          StackEnd
}

var endTexts = [StackEnds]string{
	"have an end of which nothing is known",
	"are complete",
	"have more than was copied of the stack (--stack-size)",
	"end in code that nothing describes how to unwind",
	"end at an address that is no known code",
	"do not fit what describes their code",
	"lead to another stack (as where Go calls C)",
	"have too many frames",
	"were not unwound, and their copies are gone",
	"are not unwound yet (tcap symbolize does it)",
}

// Explain says in words what is the matter with stacks that end so, after their number.
func (e StackEnd) Explain() string {
	if e >= StackEnds {
		return endTexts[EndUnknown]
	}
	return endTexts[e]
}

// NewStack returns a row of its own for a stack of which only the innermost
// frame is known so far. [Writer.EndStack] is to tell of the whole later.
func (w *Writer) NewStack(f FrameID) StackID {
	return StackID(w.addRow(tableStacks, 0, uint64(f)))
}

// EndStack says that a stack, which events may have referred to already, is
// the one in row whole, and why that has no more frames. A stack that is what it
// seemed is its own whole. A later call replaces what was said.
func (t *interner) EndStack(stack, whole StackID, end StackEnd) {
	t.addRow(tableEnds, uint64(stack), uint64(whole), uint64(end))
}

// indexEnds finds what is said of each stack. The last that was said holds.
func (t *tables) indexEnds() {
	n := t.stacks.end()
	for _, r := range t.ends.runs {
		for _, row := range r.rows {
			if row.stack == 0 || uint32(row.stack) >= n || uint32(row.whole) >= n || row.whole == 0 {
				continue
			}
			if t.wholeOf == nil {
				t.wholeOf, t.endOf = make([]StackID, n), make([]StackEnd, n)
			}
			t.wholeOf[row.stack], t.endOf[row.stack] = row.whole, row.end
		}
	}
}

// joinEqual makes stacks one that have the same frames and end alike: a writer that did not see a
// stack for long gives it another row. Fewer than limit rows have none of these.
func (t *tables) joinEqual(limit int) {
	n := t.stacks.end()
	if int(n) <= limit {
		return
	}
	first := make([]StackID, n) // of the rows with the same frames
	known := make(map[StackNode]StackID, n)
	found := false
	for _, r := range t.stacks.runs {
		for i, v := range r.rows {
			id := StackID(r.first + uint32(i))
			first[id] = id
			if t.standsForAnother(id, v) || uint32(v.Parent) >= n || v.Parent != 0 && first[v.Parent] == 0 {
				continue // of what is damaged nothing is known
			}
			if v.Parent = first[v.Parent]; known[v] == 0 {
				known[v] = id
			} else {
				first[id], found = known[v], true
			}
		}
	}
	if !found {
		return
	}
	if t.wholeOf == nil {
		t.wholeOf, t.endOf = make([]StackID, n), make([]StackEnd, n)
	}
	for id := range t.wholeOf {
		is := t.wholeOf[id]
		if is == 0 {
			is = StackID(id)
		}
		switch one := first[is]; {
		case one == is || t.endOf[one] != t.endOf[is] && t.endOf[one] != EndUnknown:
		default:
			t.wholeOf[id], t.wholeOf[one], t.endOf[one] = one, one, t.endOf[is]
		}
	}
}

// standsForAnother reports whether a row is one that [Writer.NewStack] made, and
// what it is in truth another row, or not known yet. It is no row for a stack
// that has just this one frame.
func (t *tables) standsForAnother(id StackID, n StackNode) bool {
	if n.Parent != 0 || int(id) >= len(t.wholeOf) || t.wholeOf[id] == 0 {
		return false
	}
	return t.wholeOf[id] != id || t.endOf[id] == EndWaiting || t.endOf[id] == EndDropped
}

// whole puts the stacks in the place of those that turned out to be them.
func whole(of []StackID, stacks []uint64) {
	if len(of) == 0 {
		return
	}
	for i, v := range stacks {
		if v < uint64(len(of)) && of[v] != 0 {
			stacks[i] = uint64(of[v])
		}
	}
}

// Whole returns the stack that a stack turned out to be, which may be itself.
func (r *Reader) Whole(id StackID) StackID {
	if int(id) < len(r.tables.wholeOf) && r.tables.wholeOf[id] != 0 {
		return r.tables.wholeOf[id]
	}
	return id
}

// StackEnd returns why a stack has no more frames.
func (r *Reader) StackEnd(id StackID) StackEnd {
	if int(id) < len(r.tables.endOf) {
		return r.tables.endOf[id]
	}
	return EndUnknown
}
