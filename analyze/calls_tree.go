package analyze

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// callCosts are what the stacks of calls can weigh.
var callCosts = []cost{
	{"calls", "Calls", export.Column{Head: "CALLS", Value: 0}, export.Column{Head: "TIME", Value: 1, Nanos: true}},
	{"time", "Time in calls that returned", export.Column{Head: "TIME", Value: 1, Nanos: true}, export.Column{Head: "CALLS", Value: 0}},
}

// A callCost is what calls from a stack weigh, as callCosts has it.
type callCost [2]uint64

func (s *probeStat) putStack(c *format.Call) {
	sum := s.stacks[c.Stack]
	if sum == nil {
		sum = new(callCost)
		s.stacks[c.Stack] = sum
	}
	sum[0]++
	if c.Outcome == format.CallReturned {
		sum[1] = addSat(sum[1], uint64(max(c.Duration(), 0)))
	}
}

// samples are the stacks of a probe's calls, with the probe innermost.
func (s *probeStat) samples(stacks *stackTable) []export.Sample {
	ids := make([]format.StackID, 0, len(s.stacks))
	for id := range s.stacks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b format.StackID) int {
		return cmp.Or(cmp.Compare(s.stacks[b][0], s.stacks[a][0]), cmp.Compare(a, b))
	})
	list := make([]export.Sample, 0, len(ids))
	for _, id := range ids {
		list = append(list, export.Sample{
			Stack:  append([]export.Frame{{Function: s.name}}, stacks.get(uint32(id))...),
			Values: s.stacks[id][:],
		})
	}
	return list
}

// hasStacks reports whether any call has a stack.
func (s *probeStat) hasStacks() bool { return len(s.stacks) > 1 || s.stacks[0] == nil }

func (s *probeStat) noStacks(what, option string) string {
	return fmt.Sprintf("%s of %s were not recorded: declare it with %s at the end.", what, export.Escape(s.name), option)
}

func (r *callsResult) textTrees(t *export.Text) {
	stacks := newStackTable(r.r)
	for _, s := range r.list {
		if !s.hasStacks() {
			t.Para(s.noStacks("Stacks", "{stack}"), "  ")
			continue
		}
		if s.count == 0 && r.opt.view.cost.is == "time" {
			t.Para("No call of "+export.Escape(s.name)+" is known to have returned, so there is no time to show.", "  ")
			continue
		}
		view := r.opt.view
		if s.count == 0 { // nobody knows how long a call took whose return was not recorded
			view = view.alone()
		}
		view.draw(t, s.samples(stacks))
	}
}

// Folded implements Folder; --cost says what the weights are.
func (r *callsResult) Folded(w io.Writer) error {
	var list []export.Sample
	stacks := newStackTable(r.r)
	for _, s := range r.list {
		list = append(list, s.samples(stacks)...)
	}
	return export.Folded(w, list, r.opt.view.chosen().value())
}
