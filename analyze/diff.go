package analyze

import (
	"cmp"
	"context"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// A Differ compares two captures, with the flags it was made with.
//
// Stacks are the same when their functions and lines are: where code lies in
// memory, in which directory it was built and what the program's file is called
// play no part. A frame without a name is known by its module's name and its
// offset in the file, which hold as long as the module is not built anew.
type Differ struct {
	view        *stackView
	top         int
	ignoreLines bool
	leaks, heap Runner
}

// diffCosts lists what can be compared, by the analysis that knows it.
var diffCosts = slices.Concat(leakCosts[:1], heapCosts[:2], heapCosts[3:])

// NewDiffer registers the flags of a comparison. Those that leaks has for
// selecting blocks apply to --cost leaked.
func NewDiffer(fs *pflag.FlagSet) *Differ {
	d := &Differ{view: newStackView(fs, diffCosts, "stack")}
	fs.BoolVar(&d.ignoreLines, "ignore-lines", false, "stacks of the same functions are the same, whatever their lines")
	fs.IntVar(&d.top, "top", -1, "at most `N` rows, 0 for all; unless given, 20 each way in text")
	fs.Lookup("top").DefValue = "0"
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	d.leaks = newLeaksRunner(own)
	d.heap = newHeapRunner(pflag.NewFlagSet("", pflag.ContinueOnError))
	for _, name := range []string{"older", "younger", "min-size", "max-size", "stack-regex", "suppressions", "builtin-suppressions"} {
		f := own.Lookup(name)
		f.Usage += " (--cost leaked)"
		fs.AddFlag(f)
	}
	return d
}

// A diffSide is one of the two captures.
type diffSide struct {
	capture      Capture
	completeness Completeness
	window       int64           // ns
	samples      []export.Sample // allocations and the cost, blocks and bytes of each
}

// Run compares a capture with an earlier one.
func (d *Differ) Run(ctx context.Context, before, after *format.Reader, fb, fa format.Filter) (*Diff, error) {
	res := &Diff{opt: d}
	var err error
	if res.before, err = d.side(ctx, before, fb); err != nil {
		return nil, err
	}
	if res.after, err = d.side(ctx, after, fa); err != nil {
		return nil, err
	}
	res.fill()
	return res, nil
}

func (d *Differ) side(ctx context.Context, r *format.Reader, f format.Filter) (diffSide, error) {
	c := d.view.chosen()
	at := min(c.column.Value, c.beside.Value)
	runner := d.heap
	if c.name == "leaked" {
		runner = d.leaks
	}
	res, err := runner.Run(ctx, r, f)
	if err != nil {
		return diffSide{}, err
	}
	var s diffSide
	switch res := res.(type) {
	case *Leaks:
		s = diffSide{res.Capture, res.completeness, res.window, res.samples()}
	case *Heap:
		s = diffSide{res.Capture, res.completeness, res.Window, res.samples()}
	}
	for i := range s.samples {
		v := &s.samples[i].Values
		*v = []uint64{(*v)[0], (*v)[1], (*v)[at], (*v)[at+1]}
	}
	return s, nil
}

// comparable returns samples whose frames have only what tells them from
// others in both captures.
func (d *Differ) comparable(list []export.Sample) []export.Sample {
	list = d.view.samples(list)
	grain := d.view.byCode()
	out := make([]export.Sample, len(list))
	for i, s := range list {
		stack := make([]export.Frame, len(s.Stack))
		for j, f := range s.Stack {
			k := export.Frame{Function: f.Function}
			if f.File != "" {
				k.File = path.Base(f.File)
				if !d.ignoreLines {
					k.Line = f.Line
				}
			}
			if (f.Function == "" || grain == export.ByModule || grain == export.ByFile && f.File == "") && f.Module != "" {
				k.Module = path.Base(f.Module)
			}
			if f.Function == "" {
				k.Offset = f.Offset
			}
			stack[j] = k
		}
		out[i] = export.Sample{Stack: stack, Values: s.Values[2:]}
	}
	return out
}

// stackKey is equal for stacks that are the same.
func stackKey(stack []export.Frame) string {
	var b strings.Builder
	for i := range stack {
		f := &stack[i]
		b.WriteString(f.Name())
		if f.File != "" {
			b.WriteString("\x00" + f.File + ":" + strconv.FormatUint(uint64(f.Line), 10))
		}
		b.WriteByte(0)
	}
	return b.String()
}

// rows compares the sides, the greatest growth first.
func (d *Differ) rows(before, after []export.Sample) []DiffRow {
	var rows []DiffRow
	if grain := d.view.byCode(); grain != "" {
		rows = codeDiff(export.GroupBy(d.comparable(before), grain), export.GroupBy(d.comparable(after), grain), grain)
	} else {
		rows = d.stackDiff(before, after)
	}
	bytes := d.view.chosen().column.Bytes
	for i := range rows {
		rows[i].grow()
	}
	slices.SortFunc(rows, func(a, b DiffRow) int {
		return cmp.Or(cmp.Compare(b.growth(bytes), a.growth(bytes)), cmp.Compare(b.growth(!bytes), a.growth(!bytes)),
			cmp.Compare(b.After.Bytes, a.After.Bytes), cmp.Compare(b.inclusiveGrowth(), a.inclusiveGrowth()), cmp.Compare(a.name, b.name))
	})
	return rows
}

func (d *Differ) stackDiff(before, after []export.Sample) []DiffRow {
	var rows []DiffRow
	at := map[string]int{}
	side := func(original []export.Sample, which func(*DiffRow) *Amount) {
		for i, s := range d.comparable(original) {
			if s.Values[0] == 0 && s.Values[1] == 0 {
				continue
			}
			key := stackKey(s.Stack)
			n, ok := at[key]
			if !ok {
				n = len(rows)
				at[key] = n
				rows = append(rows, DiffRow{name: export.FoldedName(s.Stack)})
			}
			rows[n].Stack = original[i].Stack // the later capture's holds
			sum := which(&rows[n])
			sum.Blocks, sum.Bytes = addSat(sum.Blocks, s.Values[0]), addSat(sum.Bytes, s.Values[1])
		}
	}
	side(before, func(r *DiffRow) *Amount { return &r.Before })
	side(after, func(r *DiffRow) *Amount { return &r.After })
	return rows
}

func codeDiff(before, after []*export.Group, grain export.Grain) []DiffRow {
	var rows []DiffRow
	at := map[export.Frame]int{}
	side := func(groups []*export.Group, which func(*DiffRow) (own, all *Amount)) {
		for _, g := range groups {
			if g.Total[0] == 0 && g.Total[1] == 0 {
				continue
			}
			n, ok := at[g.Frame]
			if !ok {
				n = len(rows)
				at[g.Frame] = n
				rows = append(rows, DiffRow{Stack: []export.Frame{}, Code: &g.Frame, Inclusive: &DiffAmounts{}, name: grain.Name(&g.Frame)})
			}
			own, all := which(&rows[n])
			*own, *all = Amount{Blocks: g.Self[0], Bytes: g.Self[1]}, Amount{Blocks: g.Total[0], Bytes: g.Total[1]}
		}
	}
	side(before, func(r *DiffRow) (own, all *Amount) { return &r.Before, &r.Inclusive.Before })
	side(after, func(r *DiffRow) (own, all *Amount) { return &r.After, &r.Inclusive.After })
	return rows
}

// difference is b - a, which stays at the ends of its range.
func difference(a, b uint64) int64 {
	if b >= a {
		return int64(min(b-a, math.MaxInt64))
	}
	return -int64(min(a-b, math.MaxInt64))
}
