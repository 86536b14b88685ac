package analyze

import (
	"math/bits"

	"github.com/tcap-dev/tcap/analyze/export"
)

// codeRows makes the rows of --group-by function, module, file and line of
// those by stack: a row has the blocks that its code allocated itself, and
// beside them those of what it calls, of a stack once however often it recurs.
func (l *Leaks) codeRows(c *leakCollector, grain export.Grain) []LeakRow {
	var left []export.Sample
	merged := map[export.Frame]*leakRow{}
	for _, row := range c.rows {
		stack := l.opt.view.frames(c.stacks.get(uint32(row.key.a)))
		left = append(left, export.Sample{Stack: stack, Values: []uint64{row.total.blocks, row.total.bytes}})
		key := grain.Key(&export.Nowhere)
		if len(stack) > 0 {
			key = grain.Key(&stack[0])
		}
		if m := merged[key]; m != nil {
			m.merge(row)
		} else {
			first := *row
			merged[key] = &first
		}
	}
	var rows []LeakRow
	for _, g := range export.GroupBy(left, grain) {
		row := LeakRow{Stack: []export.Frame{}}
		if own := merged[g.Frame]; own != nil {
			row = l.row(own, c)
		}
		row.Code, row.Inclusive = &g.Frame, &Amount{Blocks: g.Total[0], Bytes: g.Total[1]}
		row.label = grain.Name(&g.Frame)
		row.order = row.label + "\x00" + g.Frame.Module
		rows = append(rows, row)
	}
	return rows
}

// inclusive is the bytes of the row's code with what it calls, 0 of other rows.
func (r *LeakRow) inclusive() uint64 {
	if r.Inclusive == nil {
		return 0
	}
	return r.Inclusive.Bytes
}

// began is the time of the first allocation; code that has none of its own is
// last.
func (r *LeakRow) began() int64 {
	if r.Blocks == 0 {
		return maxTime
	}
	return r.First
}

// codeGroups are the rows as a table shows them.
func (l *Leaks) codeGroups() []*export.Group {
	groups := l.opt.view.groups(l.samples())
	if l.opt.view.cost.is != "leaked" {
		return groups
	}
	byKey := map[export.Frame]*export.Group{}
	for _, g := range groups {
		byKey[g.Frame] = g
	}
	groups = groups[:0:0]
	for i := range l.rows {
		if g := byKey[*l.rows[i].Code]; g != nil {
			groups = append(groups, g)
		}
	}
	return groups
}

// merge adds the blocks of another row.
func (r *leakRow) merge(o *leakRow) {
	r.total.merge(o.total)
	r.uncertain.merge(o.uncertain)
	if o.first < r.first {
		r.first, r.task = o.first, o.task
	}
	r.last = max(r.last, o.last)
	r.ageMin, r.ageMax = min(r.ageMin, o.ageMin), max(r.ageMax, o.ageMax)
	var carry uint64
	r.ageSum[1], carry = bits.Add64(r.ageSum[1], o.ageSum[1], 0)
	r.ageSum[0] += o.ageSum[0] + carry
	r.ageCount += o.ageCount
}
