package analyze

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/analyze/export"
)

// closesTextRows is how many connections a text report has unless --top says
// otherwise.
const closesTextRows = 20

// Text implements Result.
func (r *closesResult) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	if r.all == 0 {
		t.Line("No connection ended.")
	} else {
		r.textGroups(t)
		t.Line("")
		r.textRows(t)
		t.Line("")
	}
	r.textSummary(t)
	r.complete.text(t)
	return t.Flush()
}

var initiatorShort = map[string]string{byApplication: "app", byPeerName: "peer", byKernelName: "kernel", byNobodyKnown: "?"}

func (r *closesResult) textGroups(t *export.Text) {
	tab := export.Table{
		Head:  []string{"CLOSES", "COMM", "PORT", "BY", "REASON", "FUNCTION", "DELAY", "IDLE"},
		Right: []bool{true, false, false, false, false, false, true, true},
		Drop:  []int{0, 4, 3, 0, 0, 0, 1, 2},
	}
	for i := range r.groups {
		g := &r.groups[i]
		tab.Rows = append(tab.Rows, []string{
			export.Count(uint64(g.Closes)), dash(printable(g.Comm)), tcpArrow[g.Direction] + " " + port(g.Port), initiatorShort[g.Initiator], g.Reason,
			dash(printable(g.Function)), brief(g.DelayP50Ns), brief(g.IdleP50Ns),
		})
	}
	t.Table(tab, "")
}

func (r *closesResult) textRows(t *export.Text) {
	tab := export.Table{
		Head:  []string{"TIME(s)", "PID", "REMOTE", "REASON", "FUNCTION", "DELAY", "IDLE"},
		Right: []bool{true, true, false, false, false, true, true},
		Drop:  []int{0, 3, 0, 0, 0, 1, 2},
	}
	rows := r.rows
	if r.opt.top == 0 {
		rows = rows[:min(len(rows), closesTextRows)]
	}
	for i := range rows {
		c := &rows[i]
		reason := c.Reason
		if c.Incomplete {
			reason += "*"
		}
		tab.Rows = append(tab.Rows, []string{
			seconds(c.EndedNs), strconv.Itoa(int(c.Pid)), hostPort(printable(c.Raddr), c.Rport), reason,
			dash(printable(deref(c.Function))), brief(c.AppToKernelNs), brief(c.IdleNs),
		})
	}
	t.Table(tab, "")
	if n := r.all - len(rows); n > 0 {
		t.Line("%s more (--top)", export.Count(uint64(n)))
	}
}

func (r *closesResult) textSummary(t *export.Text) {
	by := map[string]uint64{}
	incomplete := uint64(0)
	for i := range r.groups {
		by[r.groups[i].Initiator] += uint64(r.groups[i].Closes)
	}
	for i := range r.rows {
		if r.rows[i].Incomplete {
			incomplete++
		}
	}
	var parts []string
	for _, who := range closeInitiators {
		if n := by[who]; n > 0 {
			parts = append(parts, export.Count(n)+" by the "+who)
		}
	}
	s := counted(uint64(r.all), "connection") + " ended"
	if len(parts) > 0 {
		s += ": " + strings.Join(parts, ", ")
	}
	if r.half > 0 {
		s += fmt.Sprintf("; %s half closed at the end", export.Count(uint64(r.half)))
	}
	if incomplete > 0 {
		s += fmt.Sprintf("; %s incomplete, marked *", export.Count(incomplete))
	}
	t.Para(strings.Replace(s, "by the unknown", "by nobody knows whom", 1)+". DELAY and IDLE of a group are medians.", "  ")
}

// brief is a duration of three figures.
func brief(ns *int64) string {
	switch {
	case ns == nil:
		return "-"
	case *ns == 0:
		return "0"
	}
	v, unit := float64(*ns), "ns"
	for _, u := range []string{"us", "ms", "s"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, u
	}
	digits := 0
	if unit != "ns" && v < 9.995 {
		digits = 2
	} else if unit != "ns" && v < 99.95 {
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + unit
}

// closesDocument is the JSON form.
type closesDocument struct {
	Capture      Capture      `json:"capture"`
	Completeness Completeness `json:"completeness"`
	HalfClosed   int          `json:"half_closed"`
	Groups       []closeGroup `json:"groups"`
	Closes       []closeRow   `json:"closes"`
}

// JSON returns the document that docs/json.md describes.
func (r *closesResult) JSON() any {
	doc := closesDocument{Capture: r.capture, Completeness: r.complete, HalfClosed: r.half, Groups: r.groups, Closes: r.rows}
	if doc.Closes == nil {
		doc.Closes = []closeRow{}
	}
	return doc
}

// CSV writes a record per connection: who ended it, then the fields of tcp.
func (r *closesResult) CSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	cw.Write(append([]string{"ended_ns", "initiator", "reason", "function", "app_to_kernel_ns", "peer_to_app_ns", "idle_ns"}, tcpCSVHeader...))
	for i := range r.rows {
		c := &r.rows[i]
		cw.Write(append([]string{
			strconv.FormatInt(c.EndedNs, 10), c.Initiator, c.Reason, cellText(deref(c.Function)), optional(c.AppToKernelNs),
			optional(c.PeerToAppNs), optional(c.IdleNs),
		}, c.record()...))
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
