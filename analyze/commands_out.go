package analyze

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/analyze/export"
)

// Text implements Result.
func (r *commandsResult) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	if len(r.rows) == 0 {
		t.Line("No commands.")
	} else {
		r.textRows(t)
		r.textSlowest(t, func(c *command) { r.textCommand(t, c, max(width, export.MinWidth)) })
	}
	t.Line("")
	r.textSummary(t)
	r.complete.text(t)
	return t.Flush()
}

func (r *commandsResult) textRows(t *export.Text) {
	tab := export.Table{
		Head:  []string{strings.ToUpper(r.opt.by.is), "CALLS", "TOTAL", "SELF", "P50", "P99", "P99.9", "MAX"},
		Right: []bool{false, true, true, true, true, true, true, true},
		Drop:  []int{0, 0, 1, 0, 4, 2, 5, 3},
	}
	for _, g := range r.shown() {
		tab.Rows = append(tab.Rows, []string{
			export.Escape(g.name), export.Count(g.count), briefNs(int64(min(g.total, uint64(maxTime)))), briefNs(int64(min(g.self, uint64(maxTime)))),
			briefNs(g.quantile(0.5)), briefNs(g.quantile(0.99)), briefNs(g.quantile(0.999)), briefNs(g.most),
		})
	}
	r.table(t, tab)
}

// textCommand shows one of the slowest.
func (r *commandsResult) textCommand(t *export.Text, c *command, width int) {
	line := fmt.Sprintf("%s at %s s, client %s: %s", export.Duration(c.duration), seconds(r.capture.Since(c.start)),
		export.Escape(c.client), export.Escape(c.name))
	if c.key != "" {
		line += " " + export.Escape(c.key)
	}
	if n := c.args; n > 2 || n == 2 && c.key == "" {
		line += fmt.Sprintf(" (%d words)", n)
	}
	if width != export.Wide {
		line = export.CutEnd(line, 4*width)
	}
	t.Clauses("  ", line)
}

func (r *commandsResult) textSummary(t *export.Text) {
	if !r.wanted {
		t.Para("No probe of the role command was recorded: record with -e redis.", "  ")
		return
	}
	s := fmt.Sprintf("%s, %s of them inside scripts and transactions, %s in all", counted(r.sum.count, "command"),
		export.Count(r.nested), export.Duration(int64(min(r.sum.total, uint64(maxTime)))))
	if r.unfinished > 0 {
		s += fmt.Sprintf("; %s still running at the end", export.Count(r.unfinished))
	}
	t.Para(s+".", "  ")
	if r.timed == 0 {
		return
	}
	s = "Times are the server's own count"
	if n := r.sum.count - r.timed; n > 0 {
		s += fmt.Sprintf(" (of %s tcap's)", counted(n, "command"))
	}
	t.Para(fmt.Sprintf("%s; by tcap's clock, with the probes' traps in it, a command takes %s more.", s, briefNs(r.outsideMean())), "  ")
}

// outsideMean is what a command took that the server did not count, ns.
func (r *commandsResult) outsideMean() int64 { return r.outside / int64(max(r.timed, 1)) }

// commandsDocument is the JSON form.
type commandsDocument struct {
	Capture      Capture      `json:"capture"`
	Completeness Completeness `json:"completeness"`
	By           string       `json:"by"`
	Calls        uint64       `json:"calls"`
	SelfNs       uint64       `json:"self_ns"`
	Nested       uint64       `json:"nested"`
	Unfinished   uint64       `json:"unfinished"`
	ServerTimed  uint64       `json:"server_timed"`
	OutsideNs    *int64       `json:"outside_ns"`
	Commands     []commandRow `json:"commands"`
}

type commandRow struct {
	Command  *string          `json:"command"`
	Group    string           `json:"group"`
	Calls    uint64           `json:"calls"`
	TotalNs  uint64           `json:"total_ns"`
	SelfNs   uint64           `json:"self_ns"`
	MeanNs   int64            `json:"mean_ns"`
	P50Ns    int64            `json:"p50_ns"`
	P99Ns    int64            `json:"p99_ns"`
	P999Ns   int64            `json:"p999_ns"`
	MaxNs    int64            `json:"max_ns"`
	Examples []commandExample `json:"examples"`
}

type commandExample struct {
	Command    string  `json:"command"`
	Key        *string `json:"key"`
	Words      uint64  `json:"words"`
	StartNs    int64   `json:"start_ns"`
	DurationNs int64   `json:"duration_ns"`
	SelfNs     int64   `json:"self_ns"`
	Depth      int     `json:"depth"`
	Client     string  `json:"client"`
	Pid        uint32  `json:"pid"`
	Tid        uint32  `json:"tid"`
}

// JSON returns the document that docs/json.md describes.
func (r *commandsResult) JSON() any {
	doc := commandsDocument{
		Capture: r.capture, Completeness: r.complete, By: r.opt.by.is, Calls: r.sum.count, SelfNs: r.sum.total,
		Nested: r.nested, Unfinished: r.unfinished, ServerTimed: r.timed, Commands: []commandRow{},
	}
	if r.timed > 0 {
		mean := r.outsideMean()
		doc.OutsideNs = &mean
	}
	for _, g := range r.rows {
		row := commandRow{
			Group: g.name, Calls: g.count, TotalNs: g.total, SelfNs: g.self, MeanNs: g.mean(), P50Ns: g.quantile(0.5),
			P99Ns: g.quantile(0.99), P999Ns: g.quantile(0.999), MaxNs: g.most, Examples: []commandExample{},
		}
		if r.opt.by.is == "command" {
			row.Command = &g.name
		}
		for _, c := range g.slowest {
			t := r.r.Task(c.task)
			row.Examples = append(row.Examples, commandExample{
				Command: c.name, Key: text(c.key), Words: c.args, StartNs: r.capture.Since(c.start), DurationNs: c.duration,
				SelfNs: c.self, Depth: c.depth, Client: c.client, Pid: t.Pid, Tid: t.Tid,
			})
		}
		doc.Commands = append(doc.Commands, row)
	}
	return doc
}

// CSV writes a record per row.
func (r *commandsResult) CSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	cw.Write([]string{r.opt.by.is, "calls", "total_ns", "self_ns", "mean_ns", "p50_ns", "p99_ns", "p999_ns", "max_ns"})
	signed := func(v int64) string { return strconv.FormatInt(v, 10) }
	for _, g := range r.rows {
		cw.Write([]string{
			cellText(g.name), decimal(g.count), decimal(g.total), decimal(g.self), signed(g.mean()), signed(g.quantile(0.5)),
			signed(g.quantile(0.99)), signed(g.quantile(0.999)), signed(g.most),
		})
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
