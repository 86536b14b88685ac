package analyze

import (
	"cmp"
	"math/bits"
	"slices"
)

// tcpSummaryDocument is the JSON form of --summary.
type tcpSummaryDocument struct {
	Capture      Capture      `json:"capture"`
	Completeness Completeness `json:"completeness"`
	Summary      *tcpSummary  `json:"summary"`
}

// tcpSummary is what "tcap analyze tcp --summary" says. Every list is sorted,
// the largest first, and cut to --top rows.
type tcpSummary struct {
	Connections int    `json:"connections"`
	Open        int    `json:"open"`
	Failed      int    `json:"failed"`
	Incomplete  int    `json:"incomplete"`
	TxBytes     uint64 `json:"tx_bytes"`
	RxBytes     uint64 `json:"rx_bytes"`
	Retransmits uint64 `json:"retransmits"`

	Verdicts   []tcpCount   `json:"verdicts"`
	Errnos     []tcpCount   `json:"errnos"`
	Remotes    []tcpRemote  `json:"remotes"`
	Processes  []tcpProcess `json:"processes"`
	TopTalkers []tcpRow     `json:"top_talkers"`

	ConnectDuration []tcpBucket `json:"connect_duration"` // of connects that succeeded, from the call
	MinRtt          []tcpBucket `json:"min_rtt"`

	cut [2]int // remotes and processes beyond --top
}

type tcpCount struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// tcpTotals are the figures of a group of connections.
type tcpTotals struct {
	Connections int    `json:"connections"`
	Failed      int    `json:"failed"`
	Open        int    `json:"open"`
	TxBytes     uint64 `json:"tx_bytes"`
	RxBytes     uint64 `json:"rx_bytes"`
	Retransmits uint64 `json:"retransmits"`
}

func (t *tcpTotals) add(c *tcpConn, failed bool) {
	t.Connections++
	if failed {
		t.Failed++
	}
	if !c.over() {
		t.Open++
	}
	t.TxBytes, t.RxBytes = addSat(t.TxBytes, c.tx), addSat(t.RxBytes, c.rx)
	t.Retransmits += uint64(c.sent())
}

// A tcpRemote is a peer and the service between it and this machine: the port
// connected to, there or here, never the ephemeral one.
type tcpRemote struct {
	Direction string `json:"direction"`
	Raddr     string `json:"raddr"`
	Port      uint16 `json:"port"` // the peer's for connect, ours for accept, 0 for unknown
	tcpTotals
}

type tcpProcess struct {
	Pid  uint32 `json:"pid"`
	Comm string `json:"comm"`
	tcpTotals
}

// A tcpBucket counts what took at least FromUs and less than ToUs.
type tcpBucket struct {
	FromUs uint64 `json:"from_us"`
	ToUs   uint64 `json:"to_us"`
	Count  int    `json:"count"`
}

// summaryTop is how many rows a list has unless --top says otherwise.
const summaryTop = 10

func (r *tcpResult) summarize() *tcpSummary {
	top := int(min(r.opt.top, 1<<30))
	if top == 0 {
		top = summaryTop
	}
	s := new(tcpSummary)
	g := tcpGroups{
		verdicts: map[string]int{}, errnos: map[string]int{},
		remotes: map[tcpRemote]*tcpTotals{}, processes: map[tcpProcess]*tcpTotals{},
	}
	for _, c := range r.conns {
		g.add(r.view, c, s)
	}
	s.Verdicts, s.Errnos = counts(g.verdicts), counts(g.errnos)
	s.Remotes = g.sortedRemotes()
	s.Processes = g.sortedProcesses()
	s.cut = [2]int{max(len(s.Remotes)-top, 0), max(len(s.Processes)-top, 0)}
	s.Remotes, s.Processes = s.Remotes[:min(top, len(s.Remotes))], s.Processes[:min(top, len(s.Processes))]
	s.ConnectDuration, s.MinRtt = g.connect.buckets(), g.rtt.buckets()

	talkers := slices.Clone(r.conns)
	slices.SortStableFunc(talkers, func(a, b *tcpConn) int { return tcpOrders["bytes"](r.view, a, b) })
	s.TopTalkers = []tcpRow{}
	for _, c := range talkers[:min(top, len(talkers))] {
		if c.tx == 0 && c.rx == 0 {
			break
		}
		s.TopTalkers = append(s.TopTalkers, r.view.row(c))
	}
	return s
}

type tcpGroups struct {
	verdicts, errnos map[string]int
	remotes          map[tcpRemote]*tcpTotals
	processes        map[tcpProcess]*tcpTotals
	connect, rtt     log2
}

func (g *tcpGroups) add(v *tcpView, c *tcpConn, s *tcpSummary) {
	row := v.row(c)
	e := v.judge.ending(c)
	failed := e.verdict.failed()
	var t tcpTotals
	t.add(c, failed)
	s.Connections += t.Connections
	s.Failed += t.Failed
	s.Open += t.Open
	s.TxBytes, s.RxBytes = addSat(s.TxBytes, t.TxBytes), addSat(s.RxBytes, t.RxBytes)
	s.Retransmits += t.Retransmits
	if row.Incomplete {
		s.Incomplete++
	}
	g.verdicts[row.Close.Verdict]++
	if row.Errno != nil {
		g.errnos[*row.Errno]++
	}
	key := tcpRemote{Direction: row.Direction, Raddr: row.Raddr}
	switch c.direction {
	case tcpConnect:
		key.Port = row.Rport
	case tcpAccept:
		key.Port = row.Lport
	}
	group(g.remotes, key).add(c, failed)
	group(g.processes, tcpProcess{Pid: row.Pid, Comm: row.Comm}).add(c, failed)
	if row.ConnectDurationNs != nil && c.established != 0 {
		g.connect.add(uint64(max(*row.ConnectDurationNs, 0)) / 1000)
	}
	if c.minRtt != 0 {
		g.rtt.add(uint64(c.minRtt))
	}
}

func group[K comparable](m map[K]*tcpTotals, k K) *tcpTotals {
	t := m[k]
	if t == nil {
		t = new(tcpTotals)
		m[k] = t
	}
	return t
}

func (g *tcpGroups) sortedRemotes() []tcpRemote {
	out := make([]tcpRemote, 0, len(g.remotes))
	for k, t := range g.remotes {
		k.tcpTotals = *t
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b tcpRemote) int {
		return cmp.Or(b.compare(&a.tcpTotals), cmp.Compare(a.Raddr, b.Raddr),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Direction, b.Direction))
	})
	return out
}

func (g *tcpGroups) sortedProcesses() []tcpProcess {
	out := make([]tcpProcess, 0, len(g.processes))
	for k, t := range g.processes {
		k.tcpTotals = *t
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b tcpProcess) int {
		return cmp.Or(b.compare(&a.tcpTotals), cmp.Compare(a.Pid, b.Pid), cmp.Compare(a.Comm, b.Comm))
	})
	return out
}

// compare orders by connections, then by bytes.
func (t *tcpTotals) compare(o *tcpTotals) int {
	return cmp.Or(cmp.Compare(t.Connections, o.Connections),
		cmp.Compare(addSat(t.TxBytes, t.RxBytes), addSat(o.TxBytes, o.RxBytes)))
}

func counts(m map[string]int) []tcpCount {
	out := make([]tcpCount, 0, len(m))
	for name, n := range m {
		out = append(out, tcpCount{name, n})
	}
	slices.SortFunc(out, func(a, b tcpCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// log2 is a histogram by powers of two: bucket i counts 2^(i-1) <= v < 2^i,
// bucket 0 what is 0.
type log2 [65]int

func (h *log2) add(v uint64) { h[bits.Len64(v)]++ }

// buckets returns those from the first to the last that are not empty.
func (h *log2) buckets() []tcpBucket {
	out := []tcpBucket{}
	last := -1
	for i, n := range h {
		if n > 0 {
			last = i
		}
	}
	for i := 0; i <= last; i++ {
		if len(out) == 0 && h[i] == 0 {
			continue
		}
		b := tcpBucket{Count: h[i], ToUs: 1}
		if i > 0 {
			b.FromUs, b.ToUs = 1<<(i-1), 1<<min(i, 63)
		}
		out = append(out, b)
	}
	return out
}
