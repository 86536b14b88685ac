package analyze

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

var timelineAnalyzer = Analyzer{
	Name:  "timeline",
	Short: "Queries, commands, connections and heap of a process over time",
	Long: `One row per stretch of time, with what happened in it: how much the heap grew, the
connections that came, went and were there, the queries and commands, how long the
slowest of them took and which it was. What only one file can show: that the heap
grew while that query ran.

Columns of what was not recorded are left out. Give --pid for one process.`,
	New: func(fs *pflag.FlagSet) Runner { return &timelineOptions{} },
}

type timelineOptions struct{}

// A moment is a stretch of time.
type moment struct {
	FromNs int64 `json:"from_ns"`
	ToNs   int64 `json:"to_ns"`

	LiveBytes *uint64 `json:"live_bytes"` // at its end
	GrowthB   *int64  `json:"growth_bytes"`

	Opened *uint64 `json:"connections_opened"`
	Closed *uint64 `json:"connections_closed"`
	Open   *uint64 `json:"connections_open"` // at its end

	Queries        *uint64 `json:"queries"`
	QueriesNs      *uint64 `json:"queries_total_ns"`
	QueryMaxNs     *int64  `json:"query_max_ns"`
	SlowestQuery   *string `json:"slowest_query"`
	Commands       *uint64 `json:"commands"`
	CommandsNs     *uint64 `json:"commands_self_ns"`
	CommandMaxNs   *int64  `json:"command_max_ns"`
	SlowestCommand *string `json:"slowest_command"`
}

// Run looks at the heap, the connections, the queries and the commands with the
// analyses that there are for each, and lays their results side by side.
func (o *timelineOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	res := &timelineResult{}
	heap, err := newHeapRunner(pflag.NewFlagSet("heap", pflag.ContinueOnError)).Run(ctx, r, f)
	if err != nil {
		return nil, err
	}
	res.divide(heap.(*Heap), r, f)
	if err := res.events(ctx, r, f); err != nil {
		return nil, err
	}
	if res.capture, res.complete, err = Describe(r, ""); err != nil {
		return nil, err
	}
	return res, nil
}

// timelineResult is the answer of "tcap analyze timeline".
type timelineResult struct {
	capture  Capture
	complete Completeness
	start    int64 // CLOCK_MONOTONIC ns
	moments  []moment
	has      struct{ heap, tcp, queries, commands bool }
}

// Completeness is that of the capture.
func (r *timelineResult) Completeness() Completeness { return r.complete }

// divide takes the stretches of time from the growth of the heap, whose points
// are their ends.
func (r *timelineResult) divide(h *Heap, rd *format.Reader, f format.Filter) {
	r.start = rd.Header().Start.Mono
	from := int64(0)
	if f.From != 0 {
		from = f.From - r.start
	}
	r.has.heap = h.Allocations.Blocks > 0
	before := uint64(0)
	for _, p := range h.Growth.Points {
		m := moment{FromNs: from, ToNs: p.Time}
		if r.has.heap {
			growth := int64(p.Bytes) - int64(before)
			live := p.Bytes
			m.LiveBytes, m.GrowthB = &live, &growth
			before = p.Bytes
		}
		from = p.Time
		r.moments = append(r.moments, m)
	}
}

// any reports whether something happened, or there was a heap or a connection.
func (m moment) any() bool {
	for _, n := range []*uint64{m.LiveBytes, m.Opened, m.Closed, m.Open, m.Queries, m.Commands} {
		if n != nil && *n > 0 {
			return true
		}
	}
	return false
}

// at is the stretch of time that an instant on the clock of the events is in; nil
// before the first and after the last.
func (r *timelineResult) at(t int64) *moment {
	t -= r.start
	i, _ := slices.BinarySearchFunc(r.moments, t, func(m moment, t int64) int {
		if m.ToNs < t {
			return -1
		}
		return 1
	})
	if i == len(r.moments) || t < r.moments[i].FromNs {
		return nil
	}
	return &r.moments[i]
}

// events gives the connections, queries and commands one pass together.
func (r *timelineResult) events(ctx context.Context, rd *format.Reader, f format.Filter) error {
	t, take, kinds := newTCPTracker(), r.calls(rd, f), tcpKinds
	if take != nil {
		kinds.Add(format.KindCall)
	}
	err := eachEvent(ctx, rd, kinds, "events", func(e *format.Event) {
		if e.Kind != format.KindCall {
			t.event(e)
		}
		if take != nil {
			take(e)
		}
	})
	if err != nil {
		return err
	}
	return r.connections(rd, t, f)
}

// connections counts those that the selected processes own.
func (r *timelineResult) connections(rd *format.Reader, t *tcpTracker, f format.Filter) error {
	tcp, err := (&tcpOptions{}).result(rd, t, f)
	if err != nil {
		return err
	}
	if r.has.tcp = len(tcp.conns) > 0; !r.has.tcp {
		return nil
	}
	counts := make([]uint64, 3*len(r.moments))
	for i := range r.moments {
		m := &r.moments[i]
		m.Opened, m.Closed, m.Open = &counts[3*i], &counts[3*i+1], &counts[3*i+2]
	}
	for _, c := range tcp.conns {
		end := tcp.view.judge.lifeEnd(c)
		if m := r.at(c.opened); m != nil && c.opened != 0 {
			*m.Opened++
		}
		if m := r.at(end); m != nil && c.over() {
			*m.Closed++
		}
		for i := range r.moments {
			to := r.moments[i].ToNs + r.start
			if c.begin() <= to && (!c.over() || end > to) {
				*r.moments[i].Open++
			}
		}
	}
	return nil
}

// calls returns what counts queries and commands at their ends; nil where there
// are none.
func (r *timelineResult) calls(rd *format.Reader, f format.Filter) func(*format.Event) {
	r.has.queries, r.has.commands = roleRecorded(rd, format.RoleQuery), roleRecorded(rd, format.RoleCommand)
	if !r.has.queries && !r.has.commands {
		return nil
	}
	sums := make([]struct{ queries, queriesNs, commands, commandsNs uint64 }, len(r.moments))
	for i := range r.moments {
		m := &r.moments[i]
		if r.has.queries {
			m.Queries, m.QueriesNs = &sums[i].queries, &sums[i].queriesNs
		}
		if r.has.commands {
			m.Commands, m.CommandsNs = &sums[i].commands, &sums[i].commandsNs
		}
	}
	queries := newQueryStream(rd, r.query)
	commands := newCommandStream(rd, f, r.command)
	return func(e *format.Event) {
		commands.event(e)
		queries.event(e, f)
	}
}

func (r *timelineResult) query(q *query) {
	m := r.at(q.end)
	if m == nil {
		return
	}
	*m.Queries++
	*m.QueriesNs = addSat(*m.QueriesNs, uint64(q.duration))
	if m.QueryMaxNs == nil || q.duration > *m.QueryMaxNs {
		d, text := q.duration, q.text
		if !q.known {
			text = q.print
		}
		m.QueryMaxNs, m.SlowestQuery = &d, &text
	}
}

func (r *timelineResult) command(c *command) {
	m := r.at(c.end)
	if m == nil {
		return
	}
	*m.Commands++
	*m.CommandsNs = addSat(*m.CommandsNs, uint64(max(c.self, 0)))
	if m.CommandMaxNs == nil || c.duration > *m.CommandMaxNs {
		d, text := c.duration, c.name
		if c.key != "" {
			text += " " + c.key
		}
		m.CommandMaxNs, m.SlowestCommand = &d, &text
	}
}

// Text implements Result.
func (r *timelineResult) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	tab := export.Table{Head: []string{"TIME"}, Right: []bool{true}, Drop: []int{0}, Prose: true}
	column := func(has bool, name string, drop int) {
		if has {
			tab.Head, tab.Right, tab.Drop = append(tab.Head, name), append(tab.Right, true), append(tab.Drop, drop)
		}
	}
	column(r.has.heap, "HEAP", 0)
	column(r.has.heap, "GROWTH", 4)
	column(r.has.tcp, "NEW", 6)
	column(r.has.tcp, "END", 5)
	column(r.has.tcp, "OPEN", 1)
	column(r.has.queries, "QUERIES", 0)
	column(r.has.queries, "MAX", 2)
	column(r.has.commands, "COMMANDS", 0)
	column(r.has.commands, "MAX", 3)
	slowest := r.has.queries || r.has.commands
	if slowest {
		tab.Head, tab.Right = append(tab.Head, "SLOWEST"), append(tab.Right, false)
	}
	for i := range r.moments {
		row := r.textRow(&r.moments[i])
		if slowest {
			row = append(row, r.slowest(&r.moments[i]))
		}
		tab.Rows = append(tab.Rows, row)
	}
	if len(tab.Head) == 1 {
		t.Para("Neither heap nor connections, queries or commands.", "  ")
	} else {
		t.Table(tab, "")
	}
	t.Line("")
	if len(tab.Head) > 1 && !slices.ContainsFunc(r.moments, moment.any) {
		t.Para("Nothing of this is of what was asked for.", "  ")
	}
	r.complete.text(t)
	return t.Flush()
}

// digits is how many decimals of a second tell the stretches apart.
func (r *timelineResult) digits() int {
	n := 3
	for unit := int64(1e6); n < 9 && r.moments[0].ToNs-r.moments[0].FromNs < unit; unit /= 10 {
		n++
	}
	return n
}

func (r *timelineResult) textRow(m *moment) []string {
	row := []string{strconv.FormatFloat(float64(m.FromNs)/1e9, 'f', r.digits(), 64)}
	count := func(n *uint64) string {
		if *n == 0 {
			return "."
		}
		return export.Count(*n)
	}
	if r.has.heap {
		growth := "."
		switch g := *m.GrowthB; {
		case g > 0:
			growth = "+" + bytesShort(ptr(uint64(g)))
		case g < 0:
			growth = "-" + bytesShort(ptr(uint64(-g)))
		}
		row = append(row, bytesShort(m.LiveBytes), growth)
	}
	if r.has.tcp {
		row = append(row, count(m.Opened), count(m.Closed), count(m.Open))
	}
	if r.has.queries {
		row = append(row, count(m.Queries), brief(m.QueryMaxNs))
	}
	if r.has.commands {
		row = append(row, count(m.Commands), brief(m.CommandMaxNs))
	}
	return row
}

func ptr[T any](v T) *T { return &v }

func (r *timelineResult) slowest(m *moment) string {
	switch {
	case m.SlowestQuery != nil && (m.CommandMaxNs == nil || *m.QueryMaxNs >= *m.CommandMaxNs):
		return export.Escape(*m.SlowestQuery)
	case m.SlowestCommand != nil:
		return export.Escape(*m.SlowestCommand)
	}
	return ""
}

// JSON returns the document that docs/json.md describes.
func (r *timelineResult) JSON() any {
	moments := r.moments
	if moments == nil {
		moments = []moment{}
	}
	return struct {
		Capture      Capture      `json:"capture"`
		Completeness Completeness `json:"completeness"`
		Timeline     []moment     `json:"timeline"`
	}{r.capture, r.complete, moments}
}

// CSV writes a record per stretch of time.
func (r *timelineResult) CSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	cw.Write([]string{"from_ns", "to_ns", "live_bytes", "growth_bytes", "connections_opened", "connections_closed", "connections_open",
		"queries", "queries_total_ns", "query_max_ns", "slowest_query", "commands", "commands_self_ns", "command_max_ns", "slowest_command"})
	for i := range r.moments {
		m := &r.moments[i]
		cw.Write([]string{
			strconv.FormatInt(m.FromNs, 10), strconv.FormatInt(m.ToNs, 10), optional(m.LiveBytes), optional(m.GrowthB), optional(m.Opened),
			optional(m.Closed), optional(m.Open), optional(m.Queries), optional(m.QueriesNs), optional(m.QueryMaxNs), cellText(deref(m.SlowestQuery)),
			optional(m.Commands), optional(m.CommandsNs), optional(m.CommandMaxNs), cellText(deref(m.SlowestCommand)),
		})
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
