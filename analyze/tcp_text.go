package analyze

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
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
	{"PID", 0, false, func(_ *tcpResult, w *tcpRow) string { return strconv.Itoa(int(w.Pid)) }},
	{"COMM", 0, false, func(_ *tcpResult, w *tcpRow) string { return dash(printable(w.Comm)) }},
	{"DIR", 3, false, func(_ *tcpResult, w *tcpRow) string { return tcpArrow[w.Direction] }},
	{"LADDR", 4, false, func(r *tcpResult, w *tcpRow) string { return r.addr(w.Laddr) }},
	{"LPORT", 2, false, func(_ *tcpResult, w *tcpRow) string { return port(w.Lport) }},
	{"RADDR", 0, false, func(r *tcpResult, w *tcpRow) string { return r.addr(w.Raddr) }},
	{"RPORT", 0, false, func(_ *tcpResult, w *tcpRow) string { return port(w.Rport) }},
	{"TX", 1, true, func(_ *tcpResult, w *tcpRow) string { return bytesShort(w.TxBytes) }},
	{"RX", 1, true, func(_ *tcpResult, w *tcpRow) string { return bytesShort(w.RxBytes) }},
	{"MS", 0, true, func(_ *tcpResult, w *tcpRow) string { return lifeMs(w) }},
	{"VERDICT", 0, false, func(_ *tcpResult, w *tcpRow) string { return verdictCell(w) }},
	{"ERRNO", 6, false, func(_ *tcpResult, w *tcpRow) string { return orDash(w.Errno) }},
	{"STATE", 5, false, func(_ *tcpResult, w *tcpRow) string { return w.State }},
	{"CLOSED_BY", 7, false, func(_ *tcpResult, w *tcpRow) string { return closedBy(w) }},
	{"RETR", 8, true, func(_ *tcpResult, w *tcpRow) string { return strconv.Itoa(int(w.Retransmits)) }},
	{"RTT_US", 9, true, func(_ *tcpResult, w *tcpRow) string { return rttCell(w.MinRttUs) }},
	{"CONN_MS", 10, true, func(_ *tcpResult, w *tcpRow) string { return optMs(w.ConnectDurationNs) }},
	{"UID", 11, true, func(_ *tcpResult, w *tcpRow) string { return strconv.Itoa(int(w.Uid)) }},
	{"NETNS", 12, true, func(_ *tcpResult, w *tcpRow) string { return strconv.FormatUint(w.Netns, 10) }},
}

var tcpArrow = map[string]string{"connect": "out", "accept": "in", "unknown": "?"}

// Text writes the table, the totals and the line of trust.
func (r *tcpResult) Text(w io.Writer, width int) error {
	bw := bufio.NewWriterSize(w, 1<<16)
	switch {
	case r.opt.csv:
		r.tcplife(bw)
		return bw.Flush()
	case r.opt.summary:
		r.summarize().text(bw, width)
	default:
		r.table(bw, width)
	}
	t := export.NewText(bw, width)
	r.complete.text(t)
	return errors.Join(t.Flush(), bw.Flush())
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

// table measures the columns over all rows, leaves out what does not fit, and
// writes. The rows are made twice rather than kept.
func (r *tcpResult) table(w *bufio.Writer, width int) {
	if len(r.conns) == 0 {
		fmt.Fprintln(w, "No connections.")
		return
	}
	cols := r.columns()
	wide := make([]int, len(cols))
	for i := range cols {
		wide[i] = len(cols[i].name)
	}
	for _, c := range r.conns {
		row := r.view.row(c)
		for i := range cols {
			wide[i] = max(wide[i], utf8.RuneCountInString(cols[i].cell(r, &row)))
		}
	}
	dropped := r.fit(&cols, &wide, width)
	slices.Reverse(dropped)
	cells := make([]string, len(cols))
	for i := range cols {
		cells[i] = cols[i].name
	}
	writeCells(w, cols, wide, cells)
	for _, c := range r.conns {
		row := r.view.row(c)
		for i := range cols {
			cells[i] = cols[i].cell(r, &row)
		}
		writeCells(w, cols, wide, cells)
	}
	fmt.Fprintln(w)
	t := export.NewText(w, width)
	if len(dropped) > 0 {
		t.Para("--wide also shows "+strings.Join(dropped, " ")+".", "  ")
	}
	r.totals(t)
	t.Flush()
}

// fit removes columns until the line fits, and names them.
func (r *tcpResult) fit(cols *[]tcpColumn, wide *[]int, width int) (dropped []string) {
	for !r.opt.wide {
		line, worst := -1, -1
		for i, c := range *cols {
			line += (*wide)[i] + 1
			if c.drop > 0 && (worst < 0 || c.drop >= (*cols)[worst].drop) {
				worst = i
			}
		}
		if line <= width || worst < 0 {
			break
		}
		dropped = append(dropped, (*cols)[worst].name)
		*cols = append((*cols)[:worst:worst], (*cols)[worst+1:]...)
		*wide = append((*wide)[:worst:worst], (*wide)[worst+1:]...)
	}
	return dropped
}

func writeCells(w io.Writer, cols []tcpColumn, wide []int, cells []string) {
	var b strings.Builder
	for i, s := range cells {
		pad := wide[i] - utf8.RuneCountInString(s)
		if i > 0 {
			b.WriteByte(' ')
		}
		if cols[i].right {
			b.WriteString(strings.Repeat(" ", pad))
		}
		b.WriteString(s)
		if !cols[i].right && i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", pad))
		}
	}
	b.WriteByte('\n')
	io.WriteString(w, b.String())
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
	case r.opt.wide || len(s) <= addrMax:
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
