package analyze

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/export"
)

// A cost is something that a stack can weigh: a word of --cost. The words mean
// the same in every analysis that has them.
type cost struct {
	name   string
	title  string
	column export.Column // what it is
	beside export.Column // what is shown beside it, if it has a head
}

// inBytes and inBlocks make a cost of an amount whose blocks are at an index
// into the samples' values and whose bytes are at the next.
func inBytes(name, title string, at int) cost {
	return cost{name, title, export.Column{Head: "BYTES", Value: at + 1, Bytes: true}, export.Column{Head: "BLOCKS", Value: at}}
}

func inBlocks(name, title string, at int) cost {
	c := inBytes(name, title, at)
	c.column, c.beside = c.beside, c.column
	return c
}

// value is the cost's index into the samples' values.
func (c *cost) value() int { return c.column.Value }

// A stackView is how an analysis shows stacks that have weights. It is the same
// for all of them: as a list of stacks, a table by function, module, file or
// line, a tree from either end, or folded.
type stackView struct {
	tree, callers bool
	allFrames     bool
	minPercent    float64
	groupBy       choice
	cost          choice
	costs         []cost
}

// newStackView registers the flags of the view. groups are the ways of grouping
// besides those by code, the first being the default.
func newStackView(fs *pflag.FlagSet, costs []cost, groups ...string) *stackView {
	v := &stackView{costs: costs, groupBy: choice{is: groups[0], of: slices.Concat(groups, export.Grains)}}
	fs.Var(&v.groupBy, "group-by", "a row for each `GROUP`: "+v.groupBy.words())
	v.chooseCost(fs)
	fs.BoolVar(&v.allFrames, "all-frames", false, "show the allocator's own frames, operator new and the like, too")
	return v
}

// newTreeView registers the flags of trees alone.
func newTreeView(fs *pflag.FlagSet, costs []cost) *stackView {
	v := &stackView{costs: costs, allFrames: true}
	v.chooseCost(fs)
	return v.withTrees(fs)
}

// chooseCost registers the flag of what stacks weigh.
func (v *stackView) chooseCost(fs *pflag.FlagSet) {
	for _, c := range v.costs {
		v.cost.of = append(v.cost.of, c.name)
	}
	v.cost.is = v.costs[0].name
	fs.Var(&v.cost, "cost", "what stacks `WEIGH`: "+v.cost.words())
}

// withTrees registers the flags of trees, too.
func (v *stackView) withTrees(fs *pflag.FlagSet) *stackView {
	fs.BoolVar(&v.tree, "tree", false, "text: draw a tree, callers above what they call")
	fs.BoolVar(&v.callers, "caller", false, "text: draw a tree, callers below what they call")
	fs.Float64Var(&v.minPercent, "min-percent", 0.5, "sum up branches of a tree below `P` percent of the whole")
	return v
}

// byCode is the grain of --group-by, "" when it groups by something else.
func (v *stackView) byCode() export.Grain {
	if slices.Contains(export.Grains, v.groupBy.is) {
		return export.Grain(v.groupBy.is)
	}
	return ""
}

// chosen is the cost that was asked for.
func (v *stackView) chosen() *cost {
	return &v.costs[slices.IndexFunc(v.costs, func(c cost) bool { return c.name == v.cost.is })]
}

// alone is the view with nothing beside the cost.
func (v *stackView) alone() *stackView {
	u := *v
	u.costs = slices.Clone(v.costs)
	for i := range u.costs {
		u.costs[i].beside = export.Column{}
	}
	return &u
}

// frames returns a stack as it is shown.
func (v *stackView) frames(stack []export.Frame) []export.Frame {
	if v.allFrames {
		return stack
	}
	return export.WithoutAllocator(stack)
}

// samples returns samples as they are shown.
func (v *stackView) samples(list []export.Sample) []export.Sample {
	if v.allFrames {
		return list
	}
	return export.TrimAllocator(list)
}

// groups sums samples up by code, the greatest cost first.
func (v *stackView) groups(list []export.Sample) []*export.Group {
	grain, value := v.byCode(), v.chosen().value()
	groups := export.GroupBy(v.samples(list), grain)
	slices.SortFunc(groups, func(a, b *export.Group) int {
		return cmp.Or(cmp.Compare(b.Self[value], a.Self[value]), cmp.Compare(b.Total[value], a.Total[value]),
			cmp.Compare(grain.Name(&a.Frame), grain.Name(&b.Frame)), cmp.Compare(a.Frame.Module, b.Frame.Module))
	})
	return groups
}

// draw draws the trees that were asked for.
func (v *stackView) draw(t *export.Text, list []export.Sample) {
	grain := cmp.Or(v.byCode(), export.ByFunction)
	list = v.samples(list)
	columns := []export.Column{v.chosen().column, v.chosen().beside}
	if columns[1].Head == "" {
		columns = columns[:1]
	}
	for _, callers := range []bool{false, true} {
		if callers && v.callers || !callers && v.tree {
			t.Line("%s:", v.chosen().title)
			t.Tree(list, export.TreeView{
				Columns: columns, Grain: grain, Callers: callers, MinPercent: v.minPercent,
			})
			t.Line("")
		}
	}
}

// table writes groups with their own weight and that of what they call.
func (v *stackView) table(t *export.Text, groups []*export.Group, top int) {
	grain, c, own := v.byCode(), v.chosen(), v.chosen().column
	var whole uint64
	for _, g := range groups {
		whole = addSat(whole, g.Self[c.value()])
	}
	tab := export.Table{
		Head:  []string{"SELF", "%", c.beside.Head, "TOTAL", "%", strings.ToUpper(string(grain))},
		Right: []bool{true, true, true, true, true, false},
		Drop:  []int{0, 2, 4, 0, 3, 0, 1},
	}
	if grain == export.ByFunction {
		tab.Head, tab.Right = append(tab.Head, "IN"), append(tab.Right, false)
	}
	shown := groups
	if top > 0 && top < len(groups) {
		shown = groups[:top]
	}
	for _, g := range shown {
		row := []string{
			own.Text(g.Self), percent(g.Self[c.value()], whole), c.beside.Text(g.Self),
			own.Text(g.Total), percent(g.Total[c.value()], whole), export.Escape(grain.Name(&g.Frame)),
		}
		if grain == export.ByFunction {
			row = append(row, export.Cut(export.Escape(g.Frame.Place()), placeWidth))
		}
		tab.Rows = append(tab.Rows, row)
	}
	t.Para(c.title+", self and with what it calls:", "  ")
	t.Table(tab, "")
	if n := len(groups) - len(shown); n > 0 {
		t.Line("... and %s (--top 0 shows all)", counted(uint64(n), "more row"))
	}
	t.Line("")
}

// placeWidth leaves the better part of a narrow table to the names of functions.
const placeWidth = 16

func percent(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 2, 64)
}
