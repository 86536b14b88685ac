package export

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A Text writes a text report of a given width. The first write error sticks
// and is what Flush returns.
type Text struct {
	w     *bufio.Writer
	width int
	wide  bool
}

const (
	// MinWidth is the narrowest report; narrower terminals have to wrap.
	MinWidth   = 40
	proseWidth = 80 // of prose in a report without a width
)

// NewText returns a writer of reports of at most width columns, or, for [Wide], of
// whatever their tables need.
func NewText(w io.Writer, width int) *Text {
	if width == Wide {
		return &Text{w: bufio.NewWriter(w), width: proseWidth, wide: true}
	}
	return &Text{w: bufio.NewWriter(w), width: max(width, MinWidth)}
}

// Width is how wide the report is, but for tables and stacks of a wide one.
func (t *Text) Width() int { return t.width }

// Flush writes what is buffered.
func (t *Text) Flush() error { return t.w.Flush() }

// Line writes a line as it is; its arguments must have been escaped.
func (t *Text) Line(format string, args ...any) {
	fmt.Fprintf(t.w, format, args...)
	t.w.WriteByte('\n')
}

// Clauses writes parts of a sentence on one line, or from a line of its own each
// where they do not fit one.
func (t *Text) Clauses(indent string, parts ...string) {
	one := indent + strings.Join(parts, "; ")
	if utf8.RuneCountInString(one) <= t.width {
		t.Line("%s", one)
		return
	}
	for i, part := range parts {
		if i < len(parts)-1 {
			part += ";"
		}
		t.Hang(indent, indent+"  ", part)
	}
}

// Para writes words wrapped to the width, lines after the first indented.
func (t *Text) Para(s, indent string) { t.Hang("", indent, s) }

// para is Para with all lines indented.
func (t *Text) para(indent, s string) { t.Hang(indent, indent, s) }

// Hang writes words wrapped to the width: what the first line begins with, and what the
// others do.
func (t *Text) Hang(first, indent, s string) {
	t.w.WriteString(first)
	col := utf8.RuneCountInString(first)
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
	names, places := make([]string, len(frames)), make([]string, len(frames))
	place, name := 0, 0
	for i := range frames {
		names[i], places[i] = Escape(frames[i].Name()), Escape(frames[i].Place())
		name, place = max(name, utf8.RuneCountInString(names[i])), max(place, utf8.RuneCountInString(places[i]))
	}
	if room := t.width - len(indent); !t.wide {
		place = min(place, room/3)
		name = room - place - 2
	}
	for i := range frames {
		at := Cut(places[i], place)
		if at == "" {
			t.Line("%s%s", indent, CutName(names[i], name))
			continue
		}
		cut := CutName(names[i], name)
		t.Line("%s%s%s  %s", indent, cut, pad(cut, min(name, 40)), at)
	}
}

func pad(s string, width int) string {
	return strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}
