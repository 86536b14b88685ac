package analyze

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tcap-dev/tcap/analyze/export"
)

func (s *tcpSummary) text(w io.Writer, width int) {
	fmt.Fprintf(w, "%s: %s failed, %s open, %s incomplete\n", counted(uint64(s.Connections), "connection"),
		export.Count(uint64(s.Failed)), export.Count(uint64(s.Open)), export.Count(uint64(s.Incomplete)))
	fmt.Fprintf(w, "%s sent, %s received, %s retransmitted\n", bytesOf(s.TxBytes), export.Count(s.RxBytes), counted(s.Retransmits, "segment"))
	countsText(w, "Verdicts", s.Verdicts)
	countsText(w, "Errors", s.Errnos)
	s.remotesText(w)
	s.processesText(w)
	s.talkersText(w)
	bucketsText(w, "Time to connect", s.ConnectDuration, width)
	bucketsText(w, "Least round trip", s.MinRtt, width)
	fmt.Fprintln(w)
}

func countsText(w io.Writer, title string, list []tcpCount) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, c := range list {
		fmt.Fprintf(w, "%9d  %s\n", c.Count, c.Name)
	}
}

const totalsHead = "CONNS FAILED  OPEN    TX    RX RETR"

func (t *tcpTotals) line() string {
	return fmt.Sprintf("%5d %6d %5d %5s %5s %4d", t.Connections, t.Failed, t.Open, bytesShort(&t.TxBytes), bytesShort(&t.RxBytes), t.Retransmits)
}

func (s *tcpSummary) remotesText(w io.Writer) {
	if len(s.Remotes) == 0 {
		return
	}
	wide := len("REMOTE")
	for _, m := range s.Remotes {
		wide = max(wide, utf8.RuneCountInString(printable(m.Raddr)))
	}
	fmt.Fprintf(w, "\nRemotes\nDIR %-*s SERVICE %s\n", wide, "REMOTE", totalsHead)
	for _, m := range s.Remotes {
		service := "-"
		switch {
		case m.Port != 0 && m.Direction == "connect":
			service = "to " + strconv.Itoa(int(m.Port))
		case m.Port != 0:
			service = "on " + strconv.Itoa(int(m.Port))
		}
		fmt.Fprintf(w, "%-3s %-*s %-8s%s\n", tcpArrow[m.Direction], wide, dash(printable(m.Raddr)), service, m.line())
	}
	moreText(w, s.cut[0])
}

func (s *tcpSummary) processesText(w io.Writer) {
	if len(s.Processes) == 0 {
		return
	}
	fmt.Fprintf(w, "\nProcesses\n%-7s %-15s %s\n", "PID", "COMM", totalsHead)
	for _, p := range s.Processes {
		fmt.Fprintf(w, "%-7d %-15s %s\n", p.Pid, dash(printable(p.Comm)), p.line())
	}
	moreText(w, s.cut[1])
}

func moreText(w io.Writer, n int) {
	if n > 0 {
		fmt.Fprintf(w, "... and %d more (--top)\n", n)
	}
}

func (s *tcpSummary) talkersText(w io.Writer) {
	if len(s.TopTalkers) == 0 {
		return
	}
	fmt.Fprintf(w, "\nTop talkers\n%-7s %-15s %5s %5s %10s  %s\n", "PID", "COMM", "TX", "RX", "MS", "CONNECTION")
	for i := range s.TopTalkers {
		row := &s.TopTalkers[i]
		arrow := map[string]string{"connect": "->", "accept": "<-"}[row.Direction]
		fmt.Fprintf(w, "%-7d %-15s %5s %5s %10s  %s %s %s\n", row.Pid, dash(printable(row.Comm)),
			bytesShort(row.TxBytes), bytesShort(row.RxBytes), lifeMs(row),
			hostPort(row.Laddr, row.Lport), dash(arrow), hostPort(row.Raddr, row.Rport))
	}
}

func hostPort(addr string, p uint16) string {
	addr = dash(printable(addr))
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return addr + ":" + port(p)
}

func bucketsText(w io.Writer, title string, list []tcpBucket, width int) {
	if len(list) == 0 {
		return
	}
	most := 0
	for _, b := range list {
		most = max(most, b.Count)
	}
	bar := min(max(width-32, 10), 60)
	fmt.Fprintf(w, "\n%s\n%19s %9s\n", title, "us", "COUNT")
	for _, b := range list {
		n := (b.Count*bar + most - 1) / most
		line := fmt.Sprintf("%8d - %-8d %9d %s", b.FromUs, b.ToUs-1, b.Count, strings.Repeat("#", n))
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// csv writes all tables of the summary as one: section and name say which row
// of which, and what a section has no figure for is empty.
func (s *tcpSummary) csv(w *csv.Writer) {
	w.Write([]string{"section", "name", "direction", "port", "pid", "connections", "failed", "open", "tx_bytes", "rx_bytes", "retransmits"})
	count := func(section, name string, n int) {
		w.Write([]string{section, cellText(name), "", "", "", strconv.Itoa(n), "", "", "", "", ""})
	}
	all := tcpTotals{s.Connections, s.Failed, s.Open, s.TxBytes, s.RxBytes, s.Retransmits}
	w.Write(append([]string{"total", "", "", "", ""}, all.record()...))
	for _, c := range s.Verdicts {
		count("verdict", c.Name, c.Count)
	}
	for _, c := range s.Errnos {
		count("errno", c.Name, c.Count)
	}
	for _, m := range s.Remotes {
		w.Write(append([]string{"remote", cellText(m.Raddr), m.Direction, decimal(m.Port), ""}, m.record()...))
	}
	for _, p := range s.Processes {
		w.Write(append([]string{"process", cellText(p.Comm), "", "", decimal(p.Pid)}, p.record()...))
	}
	for _, b := range s.ConnectDuration {
		count("connect_duration_us", strconv.FormatUint(b.FromUs, 10), b.Count)
	}
	for _, b := range s.MinRtt {
		count("min_rtt_us", strconv.FormatUint(b.FromUs, 10), b.Count)
	}
}

func (t *tcpTotals) record() []string {
	return []string{
		strconv.Itoa(t.Connections), strconv.Itoa(t.Failed), strconv.Itoa(t.Open),
		decimal(t.TxBytes), decimal(t.RxBytes), decimal(t.Retransmits),
	}
}
