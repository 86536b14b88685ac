package analyze

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tcap-dev/tcap/analyze/export"
)

// A tcpColumn is a column of the table. Those with the highest drop number go
// first when the terminal is too narrow; 0 stays.
type tcpColumn struct {
	name  string
	drop  int
	right bool // figures
	cell  func(r *tcpResult, row *tcpRow) string
}

// tcpColumns are tcplife's, then what it cannot know. Each is named once; the
// order here is the order on the line.
var tcpColumns = []tcpColumn{
	{"PID", 2, false, func(_ *tcpResult, w *tcpRow) string { return strconv.Itoa(int(w.Pid)) }},
	{"COMM", 1, false, func(_ *tcpResult, w *tcpRow) string { return dash(printable(w.Comm)) }},
	{"DIR", 6, false, func(_ *tcpResult, w *tcpRow) string { return tcpArrow[w.Direction] }},
	{"LADDR", 7, false, func(r *tcpResult, w *tcpRow) string { return r.addr(w.Laddr) }},
	{"LPORT", 5, false, func(_ *tcpResult, w *tcpRow) string { return port(w.Lport) }},
	{"RADDR", 0, false, func(r *tcpResult, w *tcpRow) string { return r.addr(w.Raddr) }},
	{"RPORT", 0, false, func(_ *tcpResult, w *tcpRow) string { return port(w.Rport) }},
	{"TX", 4, true, func(_ *tcpResult, w *tcpRow) string { return bytesShort(w.TxBytes) }},
	{"RX", 4, true, func(_ *tcpResult, w *tcpRow) string { return bytesShort(w.RxBytes) }},
	{"MS", 3, true, func(_ *tcpResult, w *tcpRow) string { return lifeMs(w) }},
	{"VERDICT", 0, false, func(_ *tcpResult, w *tcpRow) string { return verdictCell(w) }},
	{"ERRNO", 9, false, func(_ *tcpResult, w *tcpRow) string { return orDash(w.Errno) }},
	{"STATE", 8, false, func(_ *tcpResult, w *tcpRow) string { return w.State }},
	{"CLOSED_BY", 10, false, func(_ *tcpResult, w *tcpRow) string { return closedBy(w) }},
	{"RETR", 11, true, func(_ *tcpResult, w *tcpRow) string { return strconv.Itoa(int(w.Retransmits)) }},
	{"RTT_US", 12, true, func(_ *tcpResult, w *tcpRow) string { return rttCell(w.MinRttUs) }},
	{"CONN_MS", 13, true, func(_ *tcpResult, w *tcpRow) string { return optMs(w.ConnectDurationNs) }},
	{"UID", 14, true, func(_ *tcpResult, w *tcpRow) string { return strconv.Itoa(int(w.Uid)) }},
	{"NETNS", 15, true, func(_ *tcpResult, w *tcpRow) string { return strconv.FormatUint(w.Netns, 10) }},
}

var tcpArrow = map[string]string{"connect": "out", "accept": "in", "unknown": "?"}

// Text writes the table, the totals and the line of trust.
func (r *tcpResult) Text(w io.Writer, width int) error {
	if r.opt.csv {
		bw := bufio.NewWriterSize(w, 1<<16)
		r.tcplife(bw)
		return bw.Flush()
	}
	r.wide = width == export.Wide
	t := export.NewText(w, width)
	if r.opt.summary {
		r.summarize().text(t)
	} else {
		r.table(t)
	}
	r.complete.text(t)
	return t.Flush()
}

// columns are those that the flags ask for.
func (r *tcpResult) columns() []tcpColumn {
	var cols []tcpColumn
	if r.opt.clock {
		cols = append(cols, tcpColumn{"TIME", 0, false, func(r *tcpResult, w *tcpRow) string { return r.clockTime(w) }})
	}
	if r.opt.seconds {
		cols = append(cols, tcpColumn{"TIME(s)", 0, false, func(_ *tcpResult, w *tcpRow) string { return seconds(w.start) }})
	}
	return append(cols, tcpColumns...)
}

// table writes the connections, whose rows are made twice rather than kept.
func (r *tcpResult) table(t *export.Text) {
	if len(r.conns) == 0 {
		t.Line("No connections.")
		return
	}
	cols := r.columns()
	tab := export.Table{Gap: 1, Whole: true}
	for _, c := range cols {
		tab.Head, tab.Right, tab.Drop = append(tab.Head, c.name), append(tab.Right, c.right), append(tab.Drop, c.drop)
	}
	cells := make([]string, len(cols))
	tab.Each = func(yield func([]string) bool) {
		for _, c := range r.conns {
			row := r.view.row(c)
			for i := range cols {
				cells[i] = cols[i].cell(r, &row)
			}
			if !yield(cells) {
				return
			}
		}
	}
	t.Table(tab, "")
	r.totals(t)
}

// totals is the line under the table.
func (r *tcpResult) totals(t *export.Text) {
	var tx, rx uint64
	var open, failed, incomplete int
	for _, c := range r.conns {
		tx, rx = addSat(tx, c.tx), addSat(rx, c.rx)
		if !c.over() {
			open++
		}
		if e := r.view.judge.ending(c); e.verdict.failed() {
			failed++
		}
		if r.view.judge.incomplete(c) {
			incomplete++
		}
	}
	s := fmt.Sprintf("%s, %s failed, %s open; %s sent, %s received", counted(uint64(len(r.conns)), "connection"),
		export.Count(uint64(failed)), export.Count(uint64(open)), bytesOf(tx), export.Count(rx))
	if n := r.all - len(r.conns); n > 0 {
		s += fmt.Sprintf("; %s more not shown (--top)", export.Count(uint64(n)))
	}
	if incomplete > 0 {
		s += fmt.Sprintf("; %s incomplete, marked *", export.Count(uint64(incomplete)))
	}
	t.Para(s+".", "  ")
}

func verdictCell(w *tcpRow) string {
	if w.Incomplete {
		return w.Close.Verdict + "*"
	}
	return w.Close.Verdict
}

// closedBy is the party, and the process where one did it.
func closedBy(w *tcpRow) string {
	s := orDash(w.Close.By)
	if w.Close.Pid != nil {
		s += fmt.Sprintf(" %d/%s", *w.Close.Pid, printable(*w.Close.Comm))
	}
	return s
}

// addrMax is how much of an IPv6 address the table shows unless --wide asks
// for all of it: tcplife's column.
const addrMax = 15

func (r *tcpResult) addr(s string) string {
	s = printable(s)
	switch {
	case s == "":
		return "-"
	case r.wide || len(s) <= addrMax:
		return s
	}
	return s[:7] + ".." + s[len(s)-(addrMax-9):]
}

func port(p uint16) string {
	if p == 0 {
		return "-"
	}
	return strconv.Itoa(int(p))
}

func lifeMs(w *tcpRow) string {
	s := strconv.FormatFloat(float64(w.life)/1e6, 'f', 2, 64)
	if w.bound {
		return s + "+"
	}
	return s
}

func optMs(ns *int64) string {
	if ns == nil {
		return "-"
	}
	return strconv.FormatFloat(float64(*ns)/1e6, 'f', 2, 64)
}

func rttCell(us uint32) string {
	if us == 0 {
		return "-"
	}
	return strconv.Itoa(int(us))
}

// bytesShort fits five columns: bytes as they are up to 99999, then three
// figures and a binary unit. JSON and CSV are exact.
func bytesShort(n *uint64) string {
	if n == nil {
		return "?"
	}
	v, units := float64(*n), "KMGTPE"
	if *n < 100000 {
		return strconv.FormatUint(*n, 10)
	}
	i := -1
	for v >= 1000 && i < len(units)-1 {
		v /= 1024
		i++
	}
	digits := 1
	if v >= 100 {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + units[i:i+1]
}

func seconds(ns int64) string { return strconv.FormatFloat(float64(ns)/1e9, 'f', 6, 64) }

func (r *tcpResult) clockTime(w *tcpRow) string {
	return time.Unix(0, r.capture.StartUnixNs+w.start).Format("15:04:05")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orDash(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

// printable escapes what could move a terminal's cursor: comms and, in a
// hostile file, addresses may hold any byte.
func printable(s string) string {
	for _, c := range s {
		if c < 0x20 || c == utf8.RuneError || !strconv.IsPrint(c) {
			q := strconv.QuoteToASCII(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}
