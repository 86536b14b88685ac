package export

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Text writes a text report of a given width. The first write error sticks
// and is what Flush returns.
type Text struct {
	w     *bufio.Writer
	width int
}

// MinWidth is the narrowest report; narrower terminals have to wrap.
const MinWidth = 60

// NewText returns a writer of reports of at most width columns.
func NewText(w io.Writer, width int) *Text {
	return &Text{w: bufio.NewWriter(w), width: max(width, MinWidth)}
}

// Flush writes what is buffered.
func (t *Text) Flush() error { return t.w.Flush() }

// Line writes a line as it is; its arguments must have been escaped.
func (t *Text) Line(format string, args ...any) {
	fmt.Fprintf(t.w, format, args...)
	t.w.WriteByte('\n')
}

// Clauses writes parts of a sentence on one line, or a line each where they do
// not fit one.
func (t *Text) Clauses(indent string, parts ...string) {
	one := indent + strings.Join(parts, "; ")
	if utf8.RuneCountInString(one) > t.width {
		one = indent + strings.Join(parts, ";\n"+indent)
	}
	t.Line("%s", one)
}

// Para writes words wrapped to the width, lines after the first indented.
func (t *Text) Para(s, indent string) {
	col := 0
	for i, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case col+1+n > t.width:
			t.w.WriteString("\n" + indent)
			col = len(indent)
		default:
			t.w.WriteByte(' ')
			col++
		}
		t.w.WriteString(word)
		col += n
	}
	t.w.WriteByte('\n')
}

// Stack writes the frames of a stack, a line each: the name, cut in its middle
// when it is too long, and the place in a column of its own.
func (t *Text) Stack(frames []Frame, indent string) {
	if len(frames) == 0 {
		t.Line("%s(no stack)", indent)
		return
	}
	room := t.width - len(indent)
	place := 0
	for i := range frames {
		place = max(place, utf8.RuneCountInString(Escape(frames[i].Place())))
	}
	place = min(place, room/3)
	for i := range frames {
		name := CutName(Escape(frames[i].Name()), room-place-2)
		at := Cut(Escape(frames[i].Place()), place)
		if at == "" {
			t.Line("%s%s", indent, name)
			continue
		}
		t.Line("%s%s%s  %s", indent, name, pad(name, min(room-place-2, 40)), at)
	}
}

func pad(s string, width int) string {
	return strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}

// A Table is rows of cells under a heading.
type Table struct {
	Head  []string
	Right []bool // by column: aligned to the right
	Rows  [][]string
}

// leastColumn is what is left of a column of a table that is too wide.
const leastColumn = 8

// Table writes an aligned table. When it is too wide, its widest column is cut,
// then the next.
func (t *Text) Table(tab Table, indent string) {
	width := make([]int, len(tab.Head))
	for _, row := range append([][]string{tab.Head}, tab.Rows...) {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	total := len(indent) - 2
	for _, w := range width {
		total += w + 2
	}
	for total > t.width {
		widest := slices.Index(width, slices.Max(width))
		over := min(total-t.width, width[widest]-leastColumn)
		if over <= 0 {
			break
		}
		width[widest] -= over
		total -= over
	}
	for _, row := range append([][]string{tab.Head}, tab.Rows...) {
		line := indent
		for i, c := range row {
			c = CutName(c, width[i])
			if tab.Right[i] {
				line += pad(c, width[i]) + c + "  "
			} else {
				line += c + pad(c, width[i]) + "  "
			}
		}
		t.Line("%s", strings.TrimRight(line, " "))
	}
}
