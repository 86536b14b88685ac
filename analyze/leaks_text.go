package analyze

import (
	"fmt"
	"io"

	"github.com/tcap-dev/tcap/analyze/export"
)

// textRows is how many rows a text report shows unless --top says otherwise.
const textRows = 20

// Text implements Result.
func (l *Leaks) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	switch view := l.opt.view; {
	case view.tree || view.callers:
		view.draw(t, l.samples())
	case view.byCode() != "":
		view.table(t, l.codeGroups(), topOr(l.opt.top, textRows))
	default:
		l.textRows(t)
	}
	if l.Mmap != nil {
		l.Mmap.text(t)
	}
	l.textNotes(t)
	t.Para(l.summary(), "  ")
	l.completeness.text(t)
	return t.Flush()
}

// topOr is --top, or what it is unless given.
func topOr(top, unless int) int {
	if top < 0 {
		return unless
	}
	return top
}

func (l *Leaks) textRows(t *export.Text) {
	rows := l.Rows
	if l.opt.top < 0 && len(rows) > textRows {
		rows = rows[:textRows]
	}
	for i := range rows {
		l.textRow(t, &rows[i])
	}
	l.textRest(t, rows)
}

func (l *Leaks) textRow(t *export.Text, r *LeakRow) {
	mark := ""
	if r.Uncertain {
		mark = fmt.Sprintf(", %s of them uncertain", blocks(r.UncertainBlocks))
	}
	t.Para(fmt.Sprintf("%s in %s%s", bytesOf(r.Bytes), blocks(r.Blocks), mark), "  ")
	at := "allocated at " + export.Duration(r.First)
	age := "age " + export.Duration(r.AgeMin)
	if r.Blocks > 1 {
		at = fmt.Sprintf("allocated from %s to %s", export.Duration(r.First), export.Duration(r.Last))
		age = fmt.Sprintf("age %s to %s, avg %s", export.Duration(r.AgeMin), export.Duration(r.AgeMax), export.Duration(r.AgeAvg))
	}
	t.Clauses("  ", at, age)
	if l.GroupBy == "stack" {
		t.Stack(l.opt.view.frames(r.Stack), "    ")
	} else {
		t.Line("    %s", r.label)
	}
	t.Line("")
}

func (l *Leaks) textRest(t *export.Text, shown []LeakRow) {
	if len(shown) == len(l.rows) {
		return
	}
	rest := count{l.Total.Blocks, l.Total.Bytes}
	for i := range shown {
		rest.blocks -= min(rest.blocks, shown[i].Blocks)
		rest.bytes -= min(rest.bytes, shown[i].Bytes)
	}
	t.Para(fmt.Sprintf("... and %s: %s in %s (--top 0 shows all)", counted(uint64(len(l.rows)-len(shown)), "more row"), bytesOf(rest.bytes), blocks(rest.blocks)), "  ")
	t.Line("")
}

// textNotes says what is not in the total, and how far the total can be wrong.
func (l *Leaks) textNotes(t *export.Text) {
	note := func(n uint64, format string, args ...any) {
		if n > 0 {
			t.Para(fmt.Sprintf(format, args...), "  ")
		}
	}
	for _, r := range l.Suppressed.Rules {
		kind := "suppressed"
		if r.Builtin {
			kind = "runtime's own (--builtin-suppressions=false shows them)"
		}
		note(r.Blocks, "Left out: %s in %s, %s: leak:%s", bytesOf(r.Bytes), blocks(r.Blocks), kind, export.Escape(r.Pattern))
	}
	note(l.AtExec.Blocks, "Left out: %s in %s that went with an exec.", bytesOf(l.AtExec.Bytes), blocks(l.AtExec.Blocks))
	note(l.AtExit.Blocks, "Of the leaks, %s in %s were still there when their process exited.", bytesOf(l.AtExit.Bytes), blocks(l.AtExit.Blocks))
	note(l.UnknownFrees, "%s: %s.", unknownFreesName(l.completeness), export.Count(l.UnknownFrees))
	note(l.DoubleFrees, "Frees of blocks that had been freed before: %s.", export.Count(l.DoubleFrees))
	note(l.InferredFrees, "Frees that are not in the file, inferred because the address was handed out again: %s.", export.Count(l.InferredFrees))
	b := l.Bounds
	if b.Unbounded {
		note(1, "Damage of unknown extent: up to %s of the leaks may have been freed, and any number may be missing.", blocks(b.FalseBlocks))
		return
	}
	note(b.FalseBlocks, "Lost events: up to %s of the leaks may have been freed (they are among %s marked uncertain).",
		blocks(b.FalseBlocks), blocks(l.Uncertain.Blocks))
	note(b.MissingBlocks, "Lost events: up to %s may be missing from the leaks.", blocks(b.MissingBlocks))
}

// unknownFreesName says what frees of unknown blocks are: where events are
// missing, the blocks may as well be among those.
func unknownFreesName(c Completeness) string {
	if c.Complete() {
		return "Frees of blocks from before the recording"
	}
	return "Frees of blocks from before the recording, or whose allocation is missing"
}

// summary is the report in one line.
func (l *Leaks) summary() string {
	unit := l.GroupBy
	if unit == "age" {
		unit = "age group"
	}
	return fmt.Sprintf("Leak summary: %s in %s by %s, of %s allocated in %s.",
		bytesOf(l.Total.Bytes), blocks(l.Total.Blocks), counted(uint64(len(l.rows)), unit),
		blocks(l.Allocations.Blocks), export.Duration(l.window))
}

func bytesOf(n uint64) string { return counted(n, "byte") }
func blocks(n uint64) string  { return counted(n, "block") }

func counted(n uint64, unit string) string { return export.Counted(n, unit) }
