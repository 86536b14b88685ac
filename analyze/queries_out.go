package analyze

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/analyze/export"
)

const queryTextLines = 4 // of an example's text

// Text implements Result.
func (r *queriesResult) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	width = max(width, export.MinWidth)
	if len(r.rows) == 0 {
		t.Line("No queries.")
	} else {
		r.textRows(t)
		r.textSlowest(t, func(q *query) { r.textQuery(t, q, width) })
	}
	t.Line("")
	r.textSummary(t)
	r.complete.text(t)
	return t.Flush()
}

func (r *queriesResult) textRows(t *export.Text) {
	tab := export.Table{
		Head:  []string{"COUNT", "TOTAL", "P50", "P95", "P99", "MAX", strings.ToUpper(r.opt.by.is)},
		Right: []bool{true, true, true, true, true, true, false},
		Drop:  []int{0, 0, 3, 5, 2, 4, 0},
		Prose: true,
	}
	for _, g := range r.shown() {
		tab.Rows = append(tab.Rows, []string{export.Count(g.count), briefNs(int64(min(g.total, uint64(maxTime)))),
			briefNs(g.quantile(0.5)), briefNs(g.quantile(0.95)), briefNs(g.quantile(0.99)), briefNs(g.most), export.Escape(g.name)})
	}
	r.table(t, tab)
}

// textQuery shows one of the slowest with its text.
func (r *queriesResult) textQuery(t *export.Text, q *query, width int) {
	who := fmt.Sprintf("%s at %s s, connection %s, thread %d", export.Duration(q.duration), seconds(r.capture.Since(q.start)),
		export.Escape(q.conn), r.r.Task(q.task).Tid)
	if q.parts > 1 {
		who += fmt.Sprintf(" and, resumed, %d", r.r.Task(q.last).Tid)
	}
	if q.user != "" {
		who += ", user " + export.Escape(q.user)
	}
	t.Clauses("  ", who)
	text := q.text
	if !q.known {
		text = q.print
	}
	for i, line := range wrapText(export.Escape(text), width-4, queryTextLines) {
		if i == queryTextLines-1 && q.known && q.cut() {
			line = export.CutEnd(line+"…", width-4)
		}
		t.Line("    %s", line)
	}
}

// wrapText breaks text into at most n lines of a width.
func wrapText(s string, width, n int) []string {
	var lines []string
	for r := []rune(s); ; {
		if len(r) <= width {
			return append(lines, string(r))
		}
		if len(lines) == n-1 {
			return append(lines, string(r[:width-1])+"…")
		}
		lines = append(lines, string(r[:width]))
		r = r[width:]
	}
}

func briefNs(ns int64) string { return brief(&ns) }

func (r *queriesResult) textSummary(t *export.Text) {
	s := r.stream
	if !s.wanted {
		t.Para("No probe of the role query was recorded: record with -e mysql or -e postgres.", "  ")
		return
	}
	queries := counted(r.sum.count, "query")
	out := fmt.Sprintf("%s in %s, %s in all", queries, counted(uint64(r.all), "row"), export.Duration(int64(min(r.sum.total, uint64(maxTime)))))
	own := uint64(0)
	if r.byServer > 0 {
		out += " by the server's clock"
		own = r.sum.count - r.byServer
	}
	for _, n := range []struct {
		n    uint64
		what string
	}{
		{own, "of them by tcap's, as the server's could not be read"},
		{r.resumed, "in parts, as a pool of threads interrupts and resumes them"},
		{s.unfinished, "still running at the end"},
		{s.texts[textUnknown], "executed what was prepared before the recording"},
		{s.texts[textCut], "recorded in part (a longer str or buf in the pack keeps more)"},
		{s.texts[textHidden], "with the length of their text alone, which is what tcap redact leaves"},
		{s.texts[textFault], "with a text that could not be read"},
	} {
		if n.n > 0 {
			out += fmt.Sprintf("; %s %s", export.Count(n.n), n.what)
		}
	}
	t.Para(out+".", "  ")
}

// queriesDocument is the JSON form.
type queriesDocument struct {
	Capture      Capture      `json:"capture"`
	Completeness Completeness `json:"completeness"`
	By           string       `json:"by"`
	Count        uint64       `json:"count"`
	TotalNs      uint64       `json:"total_ns"`
	ServerTimed  uint64       `json:"server_timed"`
	Resumed      uint64       `json:"resumed"`
	Unfinished   uint64       `json:"unfinished"`
	UnknownText  uint64       `json:"unknown_text"`
	CutText      uint64       `json:"cut_text"`
	HiddenText   uint64       `json:"hidden_text"`
	Unreadable   uint64       `json:"unreadable_text"`
	Queries      []queryRow   `json:"queries"`
}

type queryRow struct {
	Fingerprint *string        `json:"fingerprint"`
	Group       string         `json:"group"`
	Count       uint64         `json:"count"`
	TotalNs     uint64         `json:"total_ns"`
	MeanNs      int64          `json:"mean_ns"`
	P50Ns       int64          `json:"p50_ns"`
	P95Ns       int64          `json:"p95_ns"`
	P99Ns       int64          `json:"p99_ns"`
	MaxNs       int64          `json:"max_ns"`
	Examples    []queryExample `json:"examples"`
}

type queryExample struct {
	Text        *string `json:"text"` // null: not known
	LengthBytes int     `json:"length_bytes"`
	AtLeast     bool    `json:"length_at_least"` // where the text ends was not found
	StartNs     int64   `json:"start_ns"`
	EndNs       int64   `json:"end_ns"`
	DurationNs  int64   `json:"duration_ns"`
	Clock       string  `json:"clock"` // server or tcap
	Parts       int     `json:"parts"`
	Pid         uint32  `json:"pid"`
	Tid         uint32  `json:"tid"`     // that began it
	EndTid      uint32  `json:"end_tid"` // that answered
	Comm        string  `json:"comm"`
	Connection  string  `json:"connection"`
	User        *string `json:"user"`
	Database    *string `json:"database"`
}

// JSON returns the document that docs/json.md describes.
func (r *queriesResult) JSON() any {
	s := r.stream
	doc := queriesDocument{
		Capture: r.capture, Completeness: r.complete, By: r.opt.by.is, Count: r.sum.count, TotalNs: r.sum.total,
		ServerTimed: r.byServer, Resumed: r.resumed, Unfinished: s.unfinished, UnknownText: s.texts[textUnknown],
		CutText: s.texts[textCut], HiddenText: s.texts[textHidden], Unreadable: s.texts[textFault], Queries: []queryRow{},
	}
	for _, g := range r.rows {
		doc.Queries = append(doc.Queries, r.row(g))
	}
	return doc
}

func (r *queriesResult) row(g *timedGroup[*query]) queryRow {
	row := queryRow{
		Group: g.name, Count: g.count, TotalNs: g.total, MeanNs: g.mean(), P50Ns: g.quantile(0.5), P95Ns: g.quantile(0.95),
		P99Ns: g.quantile(0.99), MaxNs: g.most, Examples: []queryExample{},
	}
	if r.opt.by.is == "fingerprint" {
		row.Fingerprint = &g.name
	}
	for _, q := range g.slowest {
		t := r.r.Task(q.task)
		e := queryExample{
			LengthBytes: q.length, AtLeast: q.atLeast, StartNs: r.capture.Since(q.start), EndNs: r.capture.Since(q.end), DurationNs: q.duration, Clock: q.clock(), Parts: q.parts,
			Pid: t.Pid, Tid: t.Tid, EndTid: r.r.Task(q.last).Tid, Comm: t.Comm,
			Connection: q.conn, User: text(q.user), Database: text(q.db),
		}
		if q.known {
			e.Text = &q.text
		}
		row.Examples = append(row.Examples, e)
	}
	return row
}

// CSV writes a record per row.
func (r *queriesResult) CSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	cw.Write([]string{r.opt.by.is, "count", "total_ns", "mean_ns", "p50_ns", "p95_ns", "p99_ns", "max_ns", "slowest"})
	for _, g := range r.rows {
		row := r.row(g)
		slowest := ""
		if len(row.Examples) > 0 {
			slowest = deref(row.Examples[0].Text)
		}
		cw.Write([]string{
			cellText(g.name), decimal(row.Count), decimal(row.TotalNs), strconv.FormatInt(row.MeanNs, 10), strconv.FormatInt(row.P50Ns, 10),
			strconv.FormatInt(row.P95Ns, 10), strconv.FormatInt(row.P99Ns, 10), strconv.FormatInt(row.MaxNs, 10), cellText(slowest),
		})
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
