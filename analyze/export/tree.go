package export

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Column is one of the samples' values as a report shows it.
type Column struct {
	Head  string
	Value int  // index into the values
	Bytes bool // a size, written with its unit
	Nanos bool // a duration in ns
}

// Text is the value as people read it, in at most 13 columns.
func (c Column) Text(values []uint64) string {
	v := values[c.Value]
	switch {
	case c.Bytes:
		return Bytes(v)
	case c.Nanos:
		return Duration(int64(min(v, 1<<63-1)))
	case v > 9_999_999_999:
		return strconv.FormatFloat(float64(v), 'g', 4, 64)
	}
	return Count(v)
}

// A TreeView says how a tree is drawn.
type TreeView struct {
	Columns    []Column // the first is what the tree is about
	Grain      Grain
	Callers    bool    // bottom-up: below each function those that call it
	MinPercent float64 // of the whole; what is less is summed up in a line
}

// A treeNode is a frame at its place in the tree.
type treeNode struct {
	key      Frame
	at       Frame // the frames that are one here, as far as they agree
	values   []uint64
	ends     []uint64 // of the samples that end here
	children []*treeNode
	byKey    map[Frame]*treeNode
}

func (n *treeNode) child(f *Frame, key Frame) *treeNode {
	c := n.byKey[key]
	if c == nil {
		c = &treeNode{key: key, at: *f, values: make([]uint64, len(n.values)), ends: make([]uint64, len(n.values))}
		if n.byKey == nil {
			n.byKey = map[Frame]*treeNode{}
		}
		n.byKey[key] = c
		n.children = append(n.children, c)
	}
	if c.at.File != f.File {
		c.at.File, c.at.Line = "", 0
	} else if c.at.Line != f.Line {
		c.at.Line = 0
	}
	return c
}

// growTree makes the tree of samples; those without weight are left out.
func growTree(samples []Sample, v *TreeView) *treeNode {
	root := &treeNode{}
	for _, s := range samples {
		if s.Values[v.Columns[0].Value] == 0 {
			continue
		}
		if root.values == nil {
			root.values = make([]uint64, len(s.Values))
		}
		addTo(root.values, s.Values)
		stack := s.Stack
		if len(stack) == 0 {
			stack = []Frame{Nowhere}
		}
		n := root
		for i := range stack {
			f := &stack[i]
			if !v.Callers {
				f = &stack[len(stack)-1-i]
			}
			key := v.Grain.Key(f)
			if n != root && n.key == key && (v.Grain == ByModule || v.Grain == ByFile) {
				continue // calls within it are no branch
			}
			n = n.child(f, key)
			addTo(n.values, s.Values)
		}
		addTo(n.ends, s.Values)
	}
	return root
}

// Tree draws samples as a tree. A function that is called from one place only
// stands below its caller without further indent, its numbers left out for they
// are the same; only where the tree branches does it move to the right. That
// keeps deep stacks readable in a narrow terminal.
func (t *Text) Tree(samples []Sample, v TreeView) {
	d := treeDrawer{t: t, view: &v, root: growTree(samples, &v)}
	if d.root.values == nil {
		return
	}
	d.whole = d.root.values[v.Columns[0].Value]
	if t.width < narrowTree && !t.wide {
		v.Columns = v.Columns[:1]
	}
	var head strings.Builder
	for _, c := range v.Columns {
		width := max(len(c.Text(d.root.values)), len(c.Head), 9)
		d.widths = append(d.widths, width)
		fmt.Fprintf(&head, "%*s ", width, c.Head)
	}
	way := "CALLS, CALLERS ABOVE"
	if v.Callers {
		way = "CALLS, CALLERS BELOW"
	}
	t.Line("%s%6s  %s", head.String(), "%", way)
	d.below(d.root, "")
}

// narrowTree is the width below which a tree has one column of figures.
const narrowTree = 60

type treeDrawer struct {
	t      *Text
	view   *TreeView
	root   *treeNode
	whole  uint64
	widths []int
}

func (d *treeDrawer) weight(n *treeNode) uint64 { return n.values[d.view.Columns[0].Value] }

func (d *treeDrawer) percent(v uint64) float64 { return 100 * float64(v) / float64(d.whole) }

// A branch is what hangs below a node: a child, or what is summed up.
type branch struct {
	node   *treeNode // nil when summed up
	values []uint64
	label  string
}

// branches returns what is to be drawn below a node, the greatest first, what
// ends in the node itself before all, what falls below the cut-off last.
func (d *treeDrawer) branches(n *treeNode) []branch {
	slices.SortFunc(n.children, func(a, b *treeNode) int {
		return cmp.Or(cmp.Compare(d.weight(b), d.weight(a)),
			cmp.Compare(d.view.Grain.Name(&a.key), d.view.Grain.Name(&b.key)), cmp.Compare(a.key.Module, b.key.Module))
	})
	var out []branch
	if n != d.root && n.ends[d.view.Columns[0].Value] > 0 && len(n.children) > 0 {
		label := "(itself)"
		if d.view.Callers {
			label = "(no caller recorded)"
		}
		out = append(out, branch{values: n.ends, label: label})
	}
	few, less := make([]uint64, len(d.root.values)), 0
	for _, c := range n.children {
		if d.percent(d.weight(c)) >= d.view.MinPercent {
			out = append(out, branch{node: c, values: c.values})
			continue
		}
		addTo(few, c.values)
		less++
	}
	if less > 0 {
		out = append(out, branch{values: few, label: fmt.Sprintf("(%s more, each below %g %%)", Count(uint64(less)), d.view.MinPercent)})
	}
	return out
}

// below draws what is below a node. indent is what the lines of its branches
// begin with; at the left margin they need no lines to hang on.
func (d *treeDrawer) below(n *treeNode, indent string) {
	list := d.branches(n)
	if len(list) == 1 && n != d.root && list[0].node != nil {
		d.node(list[0].node, indent, indent, true)
		return
	}
	if len(list) > 0 && utf8.RuneCountInString(indent) > d.room()/2 {
		d.line(nil, indent+"└ ", "(too deep)", "")
		return
	}
	for i, b := range list {
		first, rest := indent+"├ ", indent+"│ "
		if i == len(list)-1 {
			first, rest = indent+"└ ", indent+"  "
		}
		if n == d.root {
			first, rest = "", ""
		}
		if b.node == nil {
			d.line(b.values, first, b.label, "")
		} else {
			d.node(b.node, first, rest, false)
		}
	}
}

// node draws a node and what is below it; its numbers are left out where they
// are those of the line above.
func (d *treeDrawer) node(n *treeNode, first, rest string, same bool) {
	values := n.values
	if same {
		values = nil
	}
	place := ""
	switch d.view.Grain {
	case ByFunction:
		place = n.at.Place()
	case ByLine: // the name has it
		if n.key.File == "" {
			place = n.at.Place()
		}
	}
	d.line(values, first, d.view.Grain.Name(&n.key), place)
	d.below(n, rest)
}

// room is what is left of the width beside the numbers.
func (d *treeDrawer) room() int {
	if d.t.wide {
		return Wide / 2
	}
	room := d.t.width - 8
	for _, w := range d.widths {
		room -= w + 1
	}
	return max(room, 20)
}

func (d *treeDrawer) line(values []uint64, lead, name, place string) {
	var b strings.Builder
	for i, c := range d.view.Columns {
		cell := ""
		if values != nil {
			cell = c.Text(values)
		}
		fmt.Fprintf(&b, "%*s ", d.widths[i], cell)
	}
	if values != nil {
		fmt.Fprintf(&b, "%6.2f  ", d.percent(values[d.view.Columns[0].Value]))
	} else {
		fmt.Fprintf(&b, "%6s  ", "")
	}
	room := max(d.room()-utf8.RuneCountInString(lead), 8)
	place = Cut(Escape(place), room/3)
	if place != "" {
		room -= utf8.RuneCountInString(place) + 2
		place = "  " + place
	}
	d.t.Line("%s", strings.TrimRight(b.String()+lead+CutName(Escape(name), room)+place, " "))
}
