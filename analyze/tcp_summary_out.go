package analyze

import (
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/analyze/export"
)

func (s *tcpSummary) text(t *export.Text) {
	t.Para(fmt.Sprintf("%s: %s failed, %s open, %s incomplete", counted(uint64(s.Connections), "connection"),
		export.Count(uint64(s.Failed)), export.Count(uint64(s.Open)), export.Count(uint64(s.Incomplete))), "  ")
	t.Para(fmt.Sprintf("%s sent, %s received, %s retransmitted", bytesOf(s.TxBytes), export.Count(s.RxBytes), counted(s.Retransmits, "segment")), "  ")
	countsText(t, "Verdicts", s.Verdicts)
	countsText(t, "Errors", s.Errnos)
	s.remotesText(t)
	s.processesText(t)
	s.talkersText(t)
	bucketsText(t, "Time to connect", s.ConnectDuration)
	bucketsText(t, "Least round trip", s.MinRtt)
	t.Line("")
}

func countsText(t *export.Text, title string, list []tcpCount) {
	if len(list) == 0 {
		return
	}
	t.Line("\n%s", title)
	for _, c := range list {
		t.Line("%9d  %s", c.Count, c.Name)
	}
}

// totals adds the columns of totals to a table, of whose own columns the last can
// be cut.
func withTotals(head ...string) export.Table {
	tab := export.Table{Head: append(head, "CONNS", "FAILED", "OPEN", "TX", "RX", "RETR"), Gap: 1}
	tab.Right, tab.Drop = make([]bool, len(tab.Head)), make([]int, len(tab.Head))
	for i, drop := range []int{0, 1, 3, 2, 2, 4} {
		tab.Right[len(head)+i], tab.Drop[len(head)+i] = true, drop
	}
	return tab
}

func (t *tcpTotals) cells() []string {
	return []string{strconv.Itoa(t.Connections), strconv.Itoa(t.Failed), strconv.Itoa(t.Open), bytesShort(&t.TxBytes), bytesShort(&t.RxBytes), decimal(t.Retransmits)}
}

func (s *tcpSummary) remotesText(t *export.Text) {
	if len(s.Remotes) == 0 {
		return
	}
	tab := withTotals("DIR", "REMOTE", "SERVICE")
	for _, m := range s.Remotes {
		service := "-"
		switch {
		case m.Port != 0 && m.Direction == "connect":
			service = "to " + strconv.Itoa(int(m.Port))
		case m.Port != 0:
			service = "on " + strconv.Itoa(int(m.Port))
		}
		tab.Rows = append(tab.Rows, append([]string{tcpArrow[m.Direction], dash(printable(m.Raddr)), service}, m.cells()...))
	}
	t.Line("\nRemotes")
	t.Table(tab, "")
	moreText(t, s.cut[0])
}

func (s *tcpSummary) processesText(t *export.Text) {
	if len(s.Processes) == 0 {
		return
	}
	tab := withTotals("PID", "COMM")
	for _, p := range s.Processes {
		tab.Rows = append(tab.Rows, append([]string{decimal(p.Pid), dash(printable(p.Comm))}, p.cells()...))
	}
	t.Line("\nProcesses")
	t.Table(tab, "")
	moreText(t, s.cut[1])
}

func moreText(t *export.Text, n int) {
	if n > 0 {
		t.Line("... and %s more (--top)", export.Count(uint64(n)))
	}
}

func (s *tcpSummary) talkersText(t *export.Text) {
	if len(s.TopTalkers) == 0 {
		return
	}
	tab := export.Table{
		Head:  []string{"PID", "COMM", "TX", "RX", "MS", "CONNECTION"},
		Right: []bool{false, false, true, true, true, false},
		Drop:  []int{1, 0, 0, 0, 2, 0},
		Gap:   1, Wrap: true,
	}
	for i := range s.TopTalkers {
		row := &s.TopTalkers[i]
		arrow := map[string]string{"connect": "->", "accept": "<-"}[row.Direction]
		tab.Rows = append(tab.Rows, []string{decimal(row.Pid), dash(printable(row.Comm)), bytesShort(row.TxBytes), bytesShort(row.RxBytes), lifeMs(row),
			hostPort(row.Laddr, row.Lport) + " " + dash(arrow) + " " + hostPort(row.Raddr, row.Rport)})
	}
	t.Line("\nTop talkers")
	t.Table(tab, "")
}

func hostPort(addr string, p uint16) string {
	addr = dash(printable(addr))
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return addr + ":" + port(p)
}

func bucketsText(t *export.Text, title string, list []tcpBucket) {
	if len(list) == 0 {
		return
	}
	var rows [][]string
	var counts []uint64
	for _, b := range list {
		rows = append(rows, []string{decimal(b.FromUs), decimal(b.ToUs - 1), strconv.Itoa(b.Count)})
		counts = append(counts, uint64(b.Count))
	}
	t.Line("\n%s", title)
	t.Bars(export.Table{Head: []string{"FROM us", "TO", "COUNT"}, Rows: rows}, counts)
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
