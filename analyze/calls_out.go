package analyze

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// A callRow is a call; its JSON form.
type callRow struct {
	Probe      string          `json:"probe"`
	Pid        uint32          `json:"pid"`
	Tid        uint32          `json:"tid"`
	Comm       string          `json:"comm"`
	StartNs    int64           `json:"start_ns"`
	DurationNs *int64          `json:"duration_ns"`
	Outcome    string          `json:"outcome"`
	Depth      int             `json:"depth"`
	Caller     *string         `json:"caller"`
	Args       json.RawMessage `json:"args"`

	text string // the arguments as text
}

func (r *callsResult) row(c *format.Call) callRow {
	t := r.r.Task(c.Task)
	row := callRow{Probe: c.Probe.Name, Pid: t.Pid, Tid: t.Tid, Comm: t.Comm, StartNs: c.Entry - r.r.Header().Start.Mono,
		Outcome: outcomeName(c.Outcome), Depth: c.Depth}
	if c.Outcome != format.CallEntered && c.Outcome != format.CallUnentered {
		d := c.Duration()
		row.DurationNs = &d
	}
	if c.Stack != 0 {
		name := callGroupings["caller"](r.r, c)
		row.Caller = &name
	}
	args, text := []byte{'{'}, []byte(nil)
	for i := range c.Args {
		a := &c.Probe.Args[i]
		if i > 0 {
			args, text = append(args, ','), append(text, ' ')
		}
		key, _ := json.Marshal(a.Name) // a string
		args = r.r.AppendArgJSON(append(append(args, key...), ':'), a.Type, &c.Args[i])
		text = append(append(text, a.Name...), '=')
		text = r.r.AppendArg(text, a.Type, &c.Args[i])
	}
	row.Args, row.text = append(args, '}'), string(text)
	return row
}

// Text implements Result.
func (r *callsResult) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	switch {
	case len(r.list) == 0:
		t.Para(r.nothing(), "  ")
	case r.opt.rows:
		r.textRows(t)
	case r.opt.view.tree || r.opt.view.callers:
		r.textTrees(t)
	case r.opt.by != "":
		r.textBy(t)
	default:
		for i, s := range r.list {
			if i > 0 {
				t.Line("")
			}
			r.textProbe(t, s)
		}
	}
	t.Line("")
	if r.bad > 0 {
		t.Para(counted(r.bad, "call")+" could not be read.", "  ")
	}
	r.complete.text(t)
	return t.Flush()
}

// nothing says why there are no calls.
func (r *callsResult) nothing() string {
	if len(r.r.Probes()) == 0 {
		return "No calls: no probe was declared (tcap record -e 'uprobe:PATH:FUNCTION(...)')."
	}
	var names []string
	for _, p := range r.r.Probes() {
		names = append(names, export.Escape(p.Name))
	}
	return "No calls of " + strings.Join(names, ", ") + " are in the part of the capture that was asked for."
}

func (s *callStat) cells() []string {
	if s.count == 0 {
		return []string{export.Count(s.calls), "", "", "", "", ""}
	}
	ns := export.Duration
	return []string{export.Count(s.calls), ns(int64(min(s.total, uint64(maxTime)))), ns(s.quantile(0.5)), ns(s.quantile(0.95)), ns(s.quantile(0.99)), ns(s.most)}
}

var callHead = []string{"CALLS", "TOTAL", "P50", "P95", "P99", "MAX"}

func (r *callsResult) textProbe(t *export.Text, s *probeStat) {
	line := export.Escape(s.name) + ": " + counted(s.calls, "call")
	for o, n := range s.outcomes {
		if n > 0 && o != format.CallReturned && o != format.CallEntered {
			line += fmt.Sprintf(", %s %s", export.Count(n), outcomeText(o))
		}
	}
	if s.count > 0 {
		line += ", " + export.Duration(int64(min(s.total, uint64(maxTime)))) + " in all"
	}
	t.Para(line+".", "  ")
	if s.count > 0 {
		t.Clauses("  ", fmt.Sprintf("p50 %s, p95 %s, p99 %s, max %s", export.Duration(s.quantile(0.5)), export.Duration(s.quantile(0.95)),
			export.Duration(s.quantile(0.99)), export.Duration(s.most)))
		textHistogram(t, &s.callStat)
	}
	for i := range s.args {
		t.Clauses("  ", s.args[i].text(&s.probe.Args[i]))
	}
}

// outcomeText says how calls ended that did not return.
func outcomeText(o int) string {
	switch o {
	case format.CallLeft:
		return "left without a return"
	case format.CallUnfinished:
		return "still running at the end"
	case format.CallUnentered:
		return "of which only the return was seen"
	}
	return outcomeName(o)
}

func textHistogram(t *export.Text, s *callStat) {
	first, last := -1, 0
	for i, n := range s.log2 {
		if n > 0 {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	var rows [][]string
	for i := first; i <= last; i++ {
		rows = append(rows, []string{export.Duration(log2From(i)), export.Duration(log2From(i + 1)), export.Count(s.log2[i])})
	}
	t.Bars(export.Table{Head: []string{"FROM", "TO", "CALLS"}, Rows: rows}, s.log2[first:last+1])
}

// log2From is the least duration in a bucket of the histogram, ns.
func log2From(bucket int) int64 {
	if bucket == 0 {
		return 0
	}
	return 1 << (min(bucket, 63) - 1)
}

// text is an argument in a line: its most frequent values, or from where to where
// numbers go.
func (a *argStat) text(arg *format.Argument) string {
	line := fmt.Sprintf("%s %s: ", export.Escape(arg.Name), export.Escape(string(arg.Type)))
	top := a.top()
	var parts []string
	if a.seen && (a.more || len(a.values) > callsArgValues) {
		parts = append(parts, fmt.Sprintf("%s to %s", orderText(a.least, arg.Type), orderText(a.most, arg.Type)))
	}
	for _, v := range top {
		parts = append(parts, fmt.Sprintf("%s (%s)", export.Escape(strconv.Quote(v.value)), export.Count(v.count)))
		if !arg.Type.IsText() {
			parts[len(parts)-1] = fmt.Sprintf("%s (%s)", export.Escape(v.value), export.Count(v.count))
		}
	}
	if n := len(a.values) - len(top); n > 0 {
		more := export.Count(uint64(n)) + " more values"
		if a.more {
			more = "more than " + export.Count(uint64(n)) + " others"
		}
		parts = append(parts, more)
	}
	if a.faults > 0 {
		parts = append(parts, "could not be read "+counted(a.faults, "time"))
	}
	if a.cut > 0 {
		parts = append(parts, "cut "+counted(a.cut, "time"))
	}
	return line + strings.Join(parts, ", ")
}

func orderText(order uint64, t format.ArgType) string {
	if t.Signed() {
		return strconv.FormatInt(int64(order^1<<63), 10)
	}
	if t == format.ArgPtr {
		return "0x" + strconv.FormatUint(order, 16)
	}
	return strconv.FormatUint(order, 10)
}

type valueCount struct {
	value string
	count uint64
}

// top are the most frequent values.
func (a *argStat) top() []valueCount {
	var list []valueCount
	for v, n := range a.values {
		list = append(list, valueCount{v, n})
	}
	slices.SortFunc(list, func(a, b valueCount) int { return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.value, b.value)) })
	return list[:min(len(list), callsArgValues)]
}

func (r *callsResult) limit(rows []*callStat) []*callStat {
	n := uint(callsTextTop)
	if r.opt.top > 0 {
		n = r.opt.top
	}
	return rows[:min(uint(len(rows)), n)]
}

func (r *callsResult) textBy(t *export.Text) {
	for i, s := range r.list {
		if i > 0 {
			t.Line("")
		}
		t.Line("%s", export.Escape(s.name))
		tab := export.Table{Head: append([]string{strings.ToUpper(r.opt.by)}, callHead...), Right: []bool{false, true, true, true, true, true, true},
			Drop: []int{0, 0, 1, 2, 4, 3, 0}}
		rows := r.limit(s.rows)
		for _, g := range rows {
			tab.Rows = append(tab.Rows, append([]string{export.Escape(g.name)}, g.cells()...))
		}
		t.Table(tab, "")
		if n := len(s.rows) - len(rows); n > 0 {
			t.Line("%s more (--top)", export.Count(uint64(n)))
		}
	}
	if r.opt.by == "caller" {
		r.textNoCallers(t)
	}
}

// textNoCallers says what to do where no caller was recorded.
func (r *callsResult) textNoCallers(t *export.Text) {
	for _, s := range r.list {
		if g := s.groups["?"]; g != nil && g.calls == s.calls {
			t.Para(s.noStacks("Callers", "{caller} or {stack}"), "  ")
		}
	}
}

func (r *callsResult) textRows(t *export.Text) {
	for _, row := range r.rows {
		took := "-"
		if row.DurationNs != nil {
			took = export.Duration(*row.DurationNs)
		}
		line := fmt.Sprintf("%s %d/%d %s %s %s", seconds(row.StartNs), row.Pid, row.Tid, export.Escape(row.Comm), export.Escape(row.Probe), took)
		if row.Outcome != "returned" && row.Outcome != "entered" {
			line += " " + row.Outcome
		}
		if row.Depth > 1 {
			line += fmt.Sprintf(" depth=%d", row.Depth)
		}
		if row.Caller != nil {
			line += " from " + export.Escape(*row.Caller)
		}
		t.Line("%s", line+" "+export.Escape(row.text))
	}
}

// callsDocument is the JSON form.
type callsDocument struct {
	Capture      Capture      `json:"capture"`
	Completeness Completeness `json:"completeness"`
	Calls        []callsProbe `json:"calls"`
	Rows         []callRow    `json:"rows,omitempty"`
}

type callsProbe struct {
	Probe     string            `json:"probe"`
	Pack      *string           `json:"pack"`
	Source    string            `json:"source"`
	Arguments []callsArgument   `json:"arguments"`
	Outcomes  map[string]uint64 `json:"outcomes"`
	callsTotals
	By     *string      `json:"by"`
	Groups []callsGroup `json:"groups"`
}

type callsTotals struct {
	Count     uint64        `json:"count"`
	TotalNs   uint64        `json:"total_ns"`
	P50Ns     int64         `json:"p50_ns"`
	P95Ns     int64         `json:"p95_ns"`
	P99Ns     int64         `json:"p99_ns"`
	MaxNs     int64         `json:"max_ns"`
	Histogram []callsBucket `json:"histogram"`
}

type callsBucket struct {
	FromNs int64  `json:"from_ns"`
	ToNs   int64  `json:"to_ns"`
	Count  uint64 `json:"count"`
}

type callsGroup struct {
	Value string `json:"value"`
	callsTotals
}

type callsArgument struct {
	Name   string       `json:"name"`
	Type   string       `json:"type"`
	Expr   string       `json:"expr"`
	Faults uint64       `json:"faults"`
	Cut    uint64       `json:"cut"`
	Values uint64       `json:"values"`
	More   bool         `json:"more_values"`
	Top    []callsValue `json:"top"`
}

type callsValue struct {
	Value string `json:"value"`
	Count uint64 `json:"count"`
}

// JSON implements Result.
func (r *callsResult) JSON() any {
	doc := callsDocument{Capture: r.capture, Completeness: r.complete, Calls: []callsProbe{}, Rows: r.rows}
	for _, s := range r.list {
		p := callsProbe{Probe: s.name, Source: s.probe.Source, Arguments: []callsArgument{}, Outcomes: map[string]uint64{},
			callsTotals: s.totals(), Groups: []callsGroup{}}
		if s.probe.Pack != "" {
			p.Pack = &s.probe.Pack
		}
		for o, n := range s.outcomes {
			if n > 0 {
				p.Outcomes[outcomeName(o)] = n
			}
		}
		for i := range s.args {
			p.Arguments = append(p.Arguments, s.args[i].json(&s.probe.Args[i]))
		}
		if r.opt.by != "" {
			p.By = &r.opt.by
			rows := s.rows
			if r.opt.top > 0 {
				rows = r.limit(rows)
			}
			for _, g := range rows {
				p.Groups = append(p.Groups, callsGroup{Value: g.name, callsTotals: g.totals()})
			}
		}
		doc.Calls = append(doc.Calls, p)
	}
	return doc
}

func (s *callStat) totals() callsTotals {
	t := callsTotals{Count: s.calls, TotalNs: s.total, P50Ns: s.quantile(0.5), P95Ns: s.quantile(0.95), P99Ns: s.quantile(0.99),
		MaxNs: s.most, Histogram: []callsBucket{}}
	for i, n := range s.log2 {
		if n > 0 {
			t.Histogram = append(t.Histogram, callsBucket{log2From(i), log2From(i + 1), n})
		}
	}
	return t
}

func (a *argStat) json(arg *format.Argument) callsArgument {
	out := callsArgument{Name: arg.Name, Type: string(arg.Type), Expr: arg.Expr, Faults: a.faults, Cut: a.cut,
		Values: uint64(len(a.values)), More: a.more, Top: []callsValue{}}
	for _, v := range a.top() {
		out.Top = append(out.Top, callsValue{v.value, v.count})
	}
	return out
}

// CSV implements Result: a record per call with --rows, per value with --by, and
// else per probe.
func (r *callsResult) CSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	if r.opt.rows {
		cw.Write([]string{"probe", "pid", "tid", "comm", "start_ns", "duration_ns", "outcome", "depth", "caller", "args"})
		for _, c := range r.rows {
			cw.Write([]string{cellText(c.Probe), decimal(c.Pid), decimal(c.Tid), cellText(c.Comm), strconv.FormatInt(c.StartNs, 10),
				optional(c.DurationNs), c.Outcome, strconv.Itoa(c.Depth), cellText(deref(c.Caller)), cellText(c.text)})
		}
	} else {
		cw.Write([]string{"probe", "by", "value", "count", "returned", "total_ns", "p50_ns", "p95_ns", "p99_ns", "max_ns"})
		for _, s := range r.list {
			rows := s.rows
			if r.opt.by == "" {
				rows = []*callStat{{latency: s.latency, calls: s.calls}}
			} else if r.opt.top > 0 {
				rows = r.limit(rows)
			}
			for _, g := range rows {
				cw.Write([]string{cellText(s.name), cellText(r.opt.by), cellText(g.name), decimal(g.calls), decimal(g.count), decimal(g.total),
					strconv.FormatInt(g.quantile(0.5), 10), strconv.FormatInt(g.quantile(0.95), 10), strconv.FormatInt(g.quantile(0.99), 10),
					strconv.FormatInt(g.most, 10)})
			}
		}
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
