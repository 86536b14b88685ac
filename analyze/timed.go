package analyze

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/export"
)

// timed is something that took a time, as a query or a command.
type timed interface {
	took() int64    // ns
	counted() int64 // ns that it counts for in sums
}

// A timedGroup is those of one row.
type timedGroup[T timed] struct {
	latency
	name    string
	self    uint64 // ns without what ran inside, where that is known
	slowest []T    // longest first
}

// example keeps a member if it is among the longest.
func (g *timedGroup[T]) example(x T, keep int) {
	if keep == 0 || len(g.slowest) == keep && x.took() <= g.slowest[keep-1].took() {
		return
	}
	at, _ := slices.BinarySearchFunc(g.slowest, x, func(a, x T) int {
		return cmp.Or(cmp.Compare(x.took(), a.took()), -1) // of equal ones the first stays first
	})
	g.slowest = slices.Insert(g.slowest, at, x)
	g.slowest = g.slowest[:min(len(g.slowest), keep)]
}

// compare orders rows by a word of --sort, the greatest first, and by name where that
// ties.
func (g *timedGroup[T]) compare(word string, h *timedGroup[T]) int {
	by := 0
	switch word {
	case "self":
		by = cmp.Compare(h.self, g.self)
	case "count", "calls":
		by = cmp.Compare(h.count, g.count)
	case "max":
		by = cmp.Compare(h.most, g.most)
	case "p99":
		by = cmp.Compare(h.quantile(0.99), g.quantile(0.99))
	case "mean":
		by = cmp.Compare(h.mean(), g.mean())
	default:
		by = cmp.Compare(h.total, g.total)
	}
	return cmp.Or(by, cmp.Compare(g.name, h.name))
}

// timedOptions are the flags of a report with such rows.
type timedOptions struct {
	by, sort choice
	slower   time.Duration
	top      uint
	examples uint
}

// register registers the flags. things are what is counted; the first of groups is
// what a row is unless --by says otherwise; orders are words of compare.
func (o *timedOptions) register(fs *pflag.FlagSet, things string, groups []string, orders ...string) {
	fs.SortFlags = false
	o.by = choice{is: groups[0], of: groups}
	o.sort.of = orders
	fs.DurationVar(&o.slower, "slower", 0, "only "+things+" that took this `TIME` or longer, as 10ms")
	fs.Var(&o.by, "by", "a row per `WHAT`: "+strings.Join(groups, ", "))
	fs.Var(&o.sort, "sort", "`ORDER` of the rows: "+strings.Join(orders, ", ")+" (total)")
	fs.UintVar(&o.top, "top", 0, "at most `N` rows; 0 is all, in text 20")
	fs.UintVar(&o.examples, "examples", 3, "the `N` slowest of each row")
}

const (
	maxTimedGroups = 20000 // what comes beyond is one row together; there can be one per key
	maxExamples    = 1000
	otherGroups    = "(all others)"
	timedTextRows  = 20 // rows of a text report unless --top says otherwise
	timedSlowest   = 5  // that it shows
)

// timedRows sums up by name.
type timedRows[T timed] struct {
	opt    timedOptions
	groups map[string]*timedGroup[T]
	rows   []*timedGroup[T] // once finished
	all    int              // rows before --top
	sum    latency          // of what the report calls the time of all
}

func newTimedRows[T timed](o timedOptions) timedRows[T] {
	return timedRows[T]{opt: o, groups: map[string]*timedGroup[T]{}}
}

// put adds to a row, which it returns.
func (r *timedRows[T]) put(name string, x T) *timedGroup[T] {
	g := r.groups[name]
	if g == nil && len(r.groups) >= maxTimedGroups {
		name = otherGroups
		g = r.groups[name]
	}
	if g == nil {
		g = &timedGroup[T]{name: name}
		r.groups[name] = g
	}
	g.addCounted(x.took(), x.counted())
	g.example(x, int(min(r.opt.examples, maxExamples)))
	return g
}

// finish sorts the rows and cuts them at --top.
func (r *timedRows[T]) finish() {
	for _, g := range r.groups {
		r.rows = append(r.rows, g)
	}
	slices.SortFunc(r.rows, func(a, b *timedGroup[T]) int { return a.compare(r.opt.sort.is, b) })
	r.all = len(r.rows)
	if r.opt.top > 0 {
		r.rows = r.rows[:int(min(r.opt.top, uint(r.all)))]
	}
}

// shown are the rows of a text report.
func (r *timedRows[T]) shown() []*timedGroup[T] {
	if r.opt.top == 0 {
		return r.rows[:min(len(r.rows), timedTextRows)]
	}
	return r.rows
}

// table writes the rows that are shown, and says how many are not.
func (r *timedRows[T]) table(t *export.Text, tab export.Table) {
	t.Table(tab, "")
	if n := r.all - len(tab.Rows); n > 0 {
		t.Line("%s more (--top)", export.Count(uint64(n)))
	}
}

// textSlowest writes the slowest of all, each by a function.
func (r *timedRows[T]) textSlowest(t *export.Text, write func(x T)) {
	all := &timedGroup[T]{}
	for _, g := range r.rows {
		for _, x := range g.slowest {
			all.example(x, timedSlowest)
		}
	}
	if len(all.slowest) == 0 {
		return
	}
	t.Line("")
	t.Line("Slowest")
	for _, x := range all.slowest {
		write(x)
	}
}

// keysFirst are the keys of a map, sorted, but one of them first.
func keysFirst[V any](m map[string]V, first string) []string {
	keys := slices.DeleteFunc(sortedKeys(m), func(k string) bool { return k == first })
	return append([]string{first}, keys...)
}
