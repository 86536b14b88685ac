package export

import (
	"iter"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Wide is the width of a report in which no column is left out and no name is cut.
const Wide = math.MaxInt

// A Table is rows of cells under a heading. Where it is too wide for the report, text is
// cut to a readable rest, then columns are left out, then text is cut to less.
type Table struct {
	Head  []string
	Right []bool // by column: figures, aligned to the right and never cut
	// Drop is the order in which columns are left out, the greatest first; those of 0, and
	// those beyond its end, stay. What was left out is said below the table.
	Drop []int
	// Wrap wraps the last column where it would be cut.
	Wrap  bool
	Prose bool // the last column is cut at its end and not, as names are, in the middle
	Whole bool // columns are left out before any text is cut
	Gap   int  // spaces between columns; 0: two
	Rows  [][]string
	// Each, if set, yields the rows instead, which are too many to be held. It is called
	// twice, and may yield the same slice again and again. A row of one cell is a remark on
	// the row above.
	Each iter.Seq[[]string]
}

const (
	readable    = 12 // characters of text that are left before columns are left out
	leastColumn = 8  // and after that
	leastWrap   = 24 // a column that is narrower is not wrapped, but goes below the others
	remark      = 9  // spaces before remarks
	longestBar  = 48
)

func (tab *Table) each() iter.Seq[[]string] {
	if tab.Each != nil {
		return tab.Each
	}
	return slices.Values(tab.Rows)
}

// A layout is how wide the columns of a table are; -1 for those that are left out.
type layout struct {
	width []int
	gap   int
	below bool // the last column has lines of its own
}

// Table writes an aligned table.
func (t *Text) Table(tab Table, indent string) {
	l, dropped := t.lay(&tab, len(indent))
	t.row(&tab, &l, indent, tab.Head)
	for row := range tab.each() {
		if len(row) == 1 && len(tab.Head) > 1 {
			t.para(indent+strings.Repeat(" ", min(remark, t.width/8)), row[0])
			continue
		}
		t.row(&tab, &l, indent, row)
	}
	if len(dropped) > 0 {
		t.Line("")
		t.Para("--wide also shows "+strings.Join(dropped, " ")+".", "  ")
	}
}

// lay finds out how wide the columns are, and which are left out.
func (t *Text) lay(tab *Table, indent int) (l layout, dropped []string) {
	l = layout{width: make([]int, len(tab.Head)), gap: tab.Gap}
	if l.gap == 0 {
		l.gap = 2
	}
	measure := func(row []string) {
		if len(row) == 1 && len(tab.Head) > 1 {
			return
		}
		for i, c := range row {
			l.width[i] = max(l.width[i], utf8.RuneCountInString(c))
		}
	}
	measure(tab.Head)
	for row := range tab.each() {
		measure(row)
	}
	if t.wide {
		return l, nil
	}
	room := t.width - indent
	last := len(l.width) - 1
	if tab.Wrap { // the heading is the least of it
		natural := l.width[last]
		l.width[last] = 0
		if left := room - l.total(); left < min(natural, leastWrap) {
			l.below = true
			l.width[last] = -1
		} else {
			l.width[last] = min(natural, left)
		}
	}
	natural, first := slices.Clone(l.width), readable
	if tab.Whole {
		first = math.MaxInt
	}
	if l.shrink(tab, room, first) {
		return l, nil
	}
	for {
		worst := -1
		for i, w := range l.width {
			if w >= 0 && i < len(tab.Drop) && tab.Drop[i] > 0 && (worst < 0 || tab.Drop[i] > tab.Drop[worst]) {
				worst = i
			}
		}
		if worst < 0 {
			break
		}
		natural[worst] = -1
		copy(l.width, natural)
		if l.shrink(tab, room, first) {
			break
		}
	}
	copy(l.width, natural)
	l.shrink(tab, room, leastColumn)
	for i, w := range natural {
		if w < 0 && i < len(tab.Drop) && tab.Drop[i] > 0 {
			dropped = append(dropped, tab.Head[i])
		}
	}
	return l, dropped
}

// total is how wide the table is.
func (l *layout) total() int {
	total := -l.gap
	for _, w := range l.width {
		if w >= 0 {
			total += w + l.gap
		}
	}
	return total
}

// shrink cuts the widest text to no less than least, then the next, until the table has
// room, and reports whether it has.
func (l *layout) shrink(tab *Table, room, least int) bool {
	for over := l.total() - room; over > 0; over = l.total() - room {
		widest := -1
		for i, w := range l.width {
			if w > least && !tab.Right[i] && (widest < 0 || w > l.width[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		l.width[widest] -= min(over, l.width[widest]-least)
	}
	return true
}

func (t *Text) row(tab *Table, l *layout, indent string, row []string) {
	line := indent
	last := len(row) - 1
	for i, c := range row {
		w := l.width[i]
		switch {
		case w < 0:
			continue
		case tab.Wrap && i == last && !t.wide: // below
		case tab.Right[i]:
			line += pad(c, w) + c
		case tab.Prose && i == last:
			line += CutEnd(c, w)
		default:
			c = CutName(c, w)
			line += c + pad(c, w)
		}
		line += strings.Repeat(" ", l.gap)
	}
	if !tab.Wrap || t.wide || row[last] == "" {
		t.Line("%s", strings.TrimRight(line, " "))
		return
	}
	lead := strings.TrimSuffix(line, strings.Repeat(" ", l.gap))
	if l.below {
		t.Line("%s", strings.TrimRight(lead, " "))
		if row[last] != tab.Head[last] {
			t.para(indent+"    ", row[last])
		}
		return
	}
	t.Hang(lead, strings.Repeat(" ", utf8.RuneCountInString(lead)), row[last])
}

// Bars writes a table of figures and, in what is left of the line, a bar as long as each
// row's weight is to the others'.
func (t *Text) Bars(tab Table, weight []uint64) {
	tab.Right = slices.Repeat([]bool{true}, len(tab.Head))
	l, _ := t.lay(&tab, 0)
	most := slices.Max(weight)
	length := max(min(t.width-l.total()-l.gap, longestBar), 0)
	t.row(&tab, &l, "", tab.Head)
	for i, row := range tab.Rows {
		n := 0
		if most > 0 {
			n = int(math.Ceil(float64(weight[i]) / float64(most) * float64(length)))
		}
		cells := append(slices.Clone(row), strings.Repeat("#", n))
		t.row(&Table{Right: append(slices.Clone(tab.Right), false)}, &layout{width: append(slices.Clone(l.width), n), gap: l.gap}, "", cells)
	}
}
