package analyze

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/google/pprof/profile"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// Leaks is the result of the leaks analysis, and its JSON form.
type Leaks struct {
	Capture      Capture `json:"capture"`
	completeness Completeness
	Complete     *Completeness `json:"completeness"`

	Total         Amount     `json:"total"`
	Uncertain     Amount     `json:"uncertain"`       // of the total: their free may have been lost
	AtExit        Amount     `json:"at_exit"`         // of the total: still there when their process exited
	AtExec        Amount     `json:"at_exec"`         // not in the total: gone with an exec
	Allocations   Amount     `json:"allocations"`     // all, freed or not
	Frees         uint64     `json:"frees"`           // all, realloc's included
	UnknownFrees  uint64     `json:"unknown_frees"`   // of blocks from before the capture
	DoubleFrees   uint64     `json:"double_frees"`    // of a block that had been freed
	InferredFrees uint64     `json:"inferred_frees"`  // not in the file: their address was handed out again
	Inherited     uint64     `json:"inherited_frees"` // in a forked child, of its copy of a parent's block
	Bounds        LeakBounds `json:"bounds"`
	Suppressed    Suppressed `json:"suppressed"`
	GroupBy       string     `json:"group_by"`
	Shown         int        `json:"shown"` // rows below, of
	Groups        int        `json:"groups"`
	Rows          []LeakRow  `json:"leaks"`
	Mmap          *Regions   `json:"mmap,omitempty"`

	opt     leakOptions
	window  int64                  // ns that were looked at
	rows    []LeakRow              // all of them
	samples func() []export.Sample // made when asked for: they name every stack that allocated
}

// Amount is a number of blocks and the sum of their sizes, which stays at its
// greatest value rather than wrap around.
type Amount struct {
	Bytes  uint64 `json:"bytes"`
	Blocks uint64 `json:"blocks"`
}

// LeakBounds say by how much lost events can have changed the total.
type LeakBounds struct {
	FalseBlocks   uint64 `json:"false_blocks_max"`   // so many of the total may have been freed
	FalseBytes    uint64 `json:"false_bytes_max"`    // their bytes at most
	MissingBlocks uint64 `json:"missing_blocks_max"` // so many may be missing from it
	Unbounded     bool   `json:"unbounded"`          // damage of unknown extent: the bounds do not hold
}

// Suppressed is what suppression rules left out of the report.
type Suppressed struct {
	Amount
	Rules []SuppressedRule `json:"rules"` // those that matched
}

// SuppressedRule is a rule that matched.
type SuppressedRule struct {
	Pattern string `json:"pattern"`
	Builtin bool   `json:"builtin"`
	Amount
}

// LeakRow is a row of the report. Times are ns since the start of the
// recording.
type LeakRow struct {
	Amount
	Uncertain       bool           `json:"uncertain"`
	UncertainBlocks uint64         `json:"uncertain_blocks"`
	UncertainBytes  uint64         `json:"uncertain_bytes"`
	First           int64          `json:"first_ns"` // first and last allocation
	Last            int64          `json:"last_ns"`
	AgeMin          int64          `json:"age_min_ns"`
	AgeAvg          int64          `json:"age_avg_ns"`
	AgeMax          int64          `json:"age_max_ns"`
	Size            *uint64        `json:"size_bytes,omitempty"` // with --group-by size
	Thread          *LeakThread    `json:"thread,omitempty"`     // with --group-by thread
	Age             *LeakAge       `json:"age,omitempty"`        // with --group-by age
	Code            *export.Frame  `json:"code,omitempty"`       // with --group-by function, module, file, line
	Inclusive       *Amount        `json:"inclusive,omitempty"`  // with what the code calls
	Stack           []export.Frame `json:"stack"`                // innermost first; empty unless grouped by stack

	label string // the group, when it is not the stack
	order string // breaks ties
}

// LeakThread is the group of a row by thread.
type LeakThread struct {
	Pid  uint32 `json:"pid"`
	Tid  uint32 `json:"tid"`
	Comm string `json:"comm"`
}

// LeakAge is the group of a row by age: From <= age < To.
type LeakAge struct {
	From int64 `json:"from_ns"`
	To   int64 `json:"to_ns"`
}

func amount(c count) Amount { return Amount{Bytes: c.bytes, Blocks: c.blocks} }

// fill makes the result of what the pass and the collector found.
func (l *Leaks) fill(p *pass, c *leakCollector, u unknownFrees) {
	l.Total, l.Uncertain = amount(c.total), amount(c.uncertain)
	l.AtExit, l.AtExec = amount(c.atExit), amount(c.atExec)
	l.Allocations, l.Frees = amount(p.allocs), p.frees
	l.window = max(p.end-max(p.want.from, l.Capture.StartMonoNs), 0)
	l.UnknownFrees, l.DoubleFrees = u.before, u.twice
	l.InferredFrees, l.Inherited = p.m.inferred, p.m.inherited
	l.Bounds = l.bounds(p, c)
	l.Complete = &l.completeness
	l.Suppressed = Suppressed{Amount: amount(c.suppressed), Rules: []SuppressedRule{}}
	for i, m := range c.matched {
		if m.blocks > 0 {
			l.Suppressed.Rules = append(l.Suppressed.Rules,
				SuppressedRule{Pattern: c.rules[i].Pattern, Builtin: c.rules[i].Builtin, Amount: amount(m)})
		}
	}
	l.GroupBy = l.opt.view.groupBy.is
	if grain := l.opt.view.byCode(); grain != "" {
		l.rows = l.codeRows(c, grain)
	} else {
		for _, row := range c.rows {
			l.rows = append(l.rows, l.row(row, c))
		}
	}
	slices.SortFunc(l.rows, leakOrders[l.opt.sortBy.is])
	l.Groups = len(l.rows)
	l.Rows = append([]LeakRow{}, l.rows...)
	if l.opt.top > 0 && l.opt.top < len(l.Rows) {
		l.Rows = l.Rows[:l.opt.top]
	}
	l.Shown = len(l.Rows)
	allocated := p.tally.rows
	l.samples = sync.OnceValue(func() []export.Sample { return samples(allocated, c) })
}

// bounds counts what was lost within the window: deaths up to its end, births
// in it.
func (l *Leaks) bounds(p *pass, c *leakCollector) LeakBounds {
	var b LeakBounds
	var frees uint64
	lost := func(n uint64, from, to int64, death, birth bool) {
		if death && from <= p.end {
			frees = addSat(frees, n)
		}
		if birth && from <= p.end && to >= p.want.from {
			b.MissingBlocks = addSat(b.MissingBlocks, n)
		}
	}
	for _, w := range l.completeness.LossWindows {
		start := l.Capture.StartMonoNs
		lost(w.Count, start+w.FromNs, start+w.ToNs, losesFrees(w.Kind), losesBirths(w.Kind))
	}
	for _, d := range p.r.Damage() {
		to := d.To
		if to == 0 {
			to = maxTime
		}
		if d.Events < 0 && d.From <= p.end {
			b.Unbounded = true
		}
		lost(uint64(max(d.Events, 0)), d.From, to, true, true)
	}
	if b.Unbounded {
		frees = c.uncertain.blocks
	}
	b.FalseBlocks = min(frees, c.uncertain.blocks)
	if b.FalseBlocks > 0 {
		b.FalseBytes = c.uncertain.bytes
	}
	return b
}

func (l *Leaks) row(r *leakRow, c *leakCollector) LeakRow {
	row := LeakRow{
		Amount:    amount(r.total),
		Uncertain: r.uncertain.blocks > 0, UncertainBlocks: r.uncertain.blocks, UncertainBytes: r.uncertain.bytes,
		First: l.Capture.Since(r.first), Last: l.Capture.Since(r.last),
		AgeMin: r.ageMin, AgeAvg: r.ageAvg(), AgeMax: r.ageMax,
		Stack: []export.Frame{},
	}
	switch l.GroupBy {
	case "stack":
		row.Stack = c.stacks.get(uint32(r.key.a))
		row.order = export.FoldedName(row.Stack)
	case "size":
		size := r.key.a
		row.Size = &size
		row.label = export.Count(size) + " bytes each"
		row.order = fmt.Sprintf("%020d", size)
	case "thread":
		t := c.want.r.Task(format.TaskID(r.task))
		row.Thread = &LeakThread{Pid: t.Pid, Tid: t.Tid, Comm: t.Comm}
		row.label = fmt.Sprintf("%s, pid %d, thread %d", export.Escape(t.Comm), t.Pid, t.Tid)
		row.order = fmt.Sprintf("%010d %010d %020d", t.Pid, t.Tid, uint64(t.Start))
	case "age":
		row.Age = ageRange(int(r.key.a))
		row.label = fmt.Sprintf("%s to %s old", export.Duration(row.Age.From), export.Duration(row.Age.To))
		row.order = fmt.Sprintf("%02d", r.key.a)
	}
	return row
}

// ageRange is the inverse of ageDecade.
func ageRange(d int) *LeakAge {
	a := &LeakAge{To: 1e6}
	for range d {
		a.From = a.To
		if a.To < maxTime/10 {
			a.To *= 10
		} else {
			a.To = maxTime
		}
	}
	return a
}

// leakOrders are the orders of --sort. What ties is ordered by size and then
// by content, never by table rows, so that equal recordings give equal reports.
var leakOrders = map[string]func(a, b LeakRow) int{
	"bytes":  func(a, b LeakRow) int { return byAmount(a, b) },
	"blocks": func(a, b LeakRow) int { return cmp.Or(cmp.Compare(b.Blocks, a.Blocks), byAmount(a, b)) },
	"age":    func(a, b LeakRow) int { return cmp.Or(cmp.Compare(b.AgeMax, a.AgeMax), byAmount(a, b)) },
	"first":  func(a, b LeakRow) int { return cmp.Or(cmp.Compare(a.began(), b.began()), byAmount(a, b)) },
}

func byAmount(a, b LeakRow) int {
	return cmp.Or(
		cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Blocks, a.Blocks), cmp.Compare(b.inclusive(), a.inclusive()),
		cmp.Compare(a.First, b.First), cmp.Compare(a.order, b.order),
	)
}

// samples are the stacks with their four pprof values: what was allocated and
// what of it is left.
func samples(allocated []tallyRow, c *leakCollector) []export.Sample {
	var out []export.Sample
	for _, row := range allocated {
		left := c.inuse.get(row.stack) // none of a stack that is suppressed
		if c.verdict(row.stack).out {
			continue
		}
		out = append(out, export.Sample{
			Stack:  c.stacks.get(row.stack),
			Values: []uint64{row.blocks, row.bytes, left.blocks, left.bytes},
		})
	}
	sortSamples(out)
	return out
}

func sortSamples(list []export.Sample) {
	slices.SortFunc(list, func(a, b export.Sample) int {
		for i := len(a.Values) - 1; i >= 0; i-- {
			if c := cmp.Compare(b.Values[i], a.Values[i]); c != 0 {
				return c
			}
		}
		return cmp.Compare(export.FoldedName(a.Stack), export.FoldedName(b.Stack))
	})
}

// JSON implements Result.
func (l *Leaks) JSON() any { return l }

// Completeness implements Result.
func (l *Leaks) Completeness() Completeness { return l.completeness }

// Folded implements Folder; --cost says what the weights are.
func (l *Leaks) Folded(w io.Writer) error {
	return export.Folded(w, l.opt.view.samples(l.samples()), l.opt.view.chosen().value())
}

// PProf implements Profiler.
func (l *Leaks) PProf() (*profile.Profile, error) {
	return export.PProf(profileOf(l.Capture, l.completeness), l.samples())
}

func profileOf(c Capture, q Completeness) export.Profile {
	return export.Profile{StartUnixNs: c.StartUnixNs, DurationNs: c.DurationNs, Comments: []string{q.Line()}}
}

// CSV implements Result.
func (l *Leaks) CSV(w io.Writer) error {
	records := [][]string{{
		"bytes", "blocks", "uncertain_bytes", "uncertain_blocks", "first_ns", "last_ns",
		"age_min_ns", "age_avg_ns", "age_max_ns", l.GroupBy,
	}}
	byCode := l.opt.view.byCode() != ""
	if byCode {
		records[0] = append(records[0], "inclusive_bytes", "inclusive_blocks")
	}
	for i := range l.Rows {
		r := &l.Rows[i]
		name := r.label
		if l.GroupBy == "stack" {
			name = r.order
		}
		records = append(records, []string{
			u64(r.Bytes), u64(r.Blocks), u64(r.UncertainBytes), u64(r.UncertainBlocks), i64(r.First), i64(r.Last),
			i64(r.AgeMin), i64(r.AgeAvg), i64(r.AgeMax), name,
		})
		if last := len(records) - 1; byCode {
			records[last] = append(records[last], u64(r.Inclusive.Bytes), u64(r.Inclusive.Blocks))
		}
	}
	return export.CSV(w, records)
}

func u64(v uint64) string { return strconv.FormatUint(v, 10) }
func i64(v int64) string  { return strconv.FormatInt(v, 10) }
