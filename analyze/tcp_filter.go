package analyze

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

// tcpOptions are the flags of "tcap analyze tcp"; those with a letter are
// tcplife's.
type tcpOptions struct {
	wide    bool
	csv     bool
	seconds bool
	clock   bool
	pids    []uint
	lports  []uint
	rports  []uint
	v4, v6  bool

	failed   bool
	open     bool
	closedBy string
	verdicts []string
	sort     string
	top      int
	summary  bool
}

func (o *tcpOptions) register(fs *pflag.FlagSet) {
	fs.BoolVarP(&o.wide, "wide", "w", false, "every column, IPv6 addresses in full, whatever the terminal's width")
	fs.BoolVarP(&o.csv, "tcplife-csv", "s", false, "tcplife's own CSV: its columns, its order, its units")
	fs.BoolVarP(&o.seconds, "timestamp", "t", false, "add the time since the start of the recording, in s")
	fs.BoolVarP(&o.clock, "time", "T", false, "add the time of day, HH:MM:SS in the local zone")
	fs.UintSliceVarP(&o.pids, "pid", "p", nil, "only connections of process `PID` (repeatable)")
	fs.UintSliceVarP(&o.lports, "localport", "L", nil, "only these local `ports`, comma-separated")
	fs.UintSliceVarP(&o.rports, "remoteport", "D", nil, "only these remote `ports`, comma-separated")
	fs.BoolVarP(&o.v4, "ipv4", "4", false, "only IPv4, also where an IPv6 socket carries it")
	fs.BoolVarP(&o.v6, "ipv6", "6", false, "only IPv6")
	fs.BoolVar(&o.failed, "failed", false, "only connections that ended in an error")
	fs.BoolVar(&o.open, "open", false, "only connections that were not closed when the recording ended")
	fs.StringVar(&o.closedBy, "closed-by", "", "only those ended by `WHO`: local, peer or kernel")
	fs.StringSliceVar(&o.verdicts, "verdict", nil, "only these `verdicts`, comma-separated (docs/verdicts.md)")
	fs.StringVar(&o.sort, "sort", "", "order: "+strings.Join(tcpOrderNames(), ", ")+" (opened; with -s closed)")
	fs.IntVar(&o.top, "top", 0, "at most `N` rows (per table of --summary: 10); 0 is all")
	fs.BoolVar(&o.summary, "summary", false, "totals, failures, remotes, processes and latencies instead of a row each")
}

// check rejects what no capture can satisfy, and fills in the order.
func (o *tcpOptions) check() error {
	switch {
	case o.sort != "":
	case o.csv:
		o.sort = "closed" // as tcplife prints them
	default:
		o.sort = "opened"
	}
	if _, ok := tcpOrders[o.sort]; !ok {
		return fmt.Errorf("--sort %q: not an order (it can be %s)", o.sort, strings.Join(tcpOrderNames(), ", "))
	}
	if o.closedBy != "" && !slices.Contains(tcpParties[1:], o.closedBy) {
		return fmt.Errorf("--closed-by %q: nobody (it can be %s)", o.closedBy, strings.Join(tcpParties[1:], ", "))
	}
	for _, v := range o.verdicts {
		if !slices.Contains(tcpVerdicts[:], v) {
			return fmt.Errorf("--verdict %q: no such verdict (it can be %s)", v, strings.Join(tcpVerdicts[:], ", "))
		}
	}
	if o.v4 && o.v6 {
		return fmt.Errorf("-4 and -6 together leave nothing: give one of them")
	}
	if o.top < 0 {
		return fmt.Errorf("--top %d: a number of rows is not negative", o.top)
	}
	for _, p := range slices.Concat(o.lports, o.rports) {
		if p > 65535 {
			return fmt.Errorf("port %d: ports end at 65535", p)
		}
	}
	return nil
}

// owners adds the flag's pids to the filter's.
func (o *tcpOptions) owners(f format.Filter) format.Filter {
	f.Pids = slices.Clone(f.Pids)
	for _, p := range o.pids {
		f.Pids = append(f.Pids, uint32(min(p, 1<<32-1)))
	}
	return f
}

// tcpSelect decides which connections a report is about. The common filters
// apply to the owner of a connection, never to who happened to process its
// packets, and a time window keeps every connection that lived in it.
type tcpSelect struct {
	opt    *tcpOptions
	filter format.Filter
	view   *tcpView
}

func (s *tcpSelect) keep(c *tcpConn) bool {
	f, o := &s.filter, s.opt
	if f.From != 0 && s.view.judge.lifeEnd(c) < f.From || f.To != 0 && c.first > f.To {
		return false
	}
	if len(o.lports) > 0 && !slices.Contains(o.lports, uint(c.lport)) ||
		len(o.rports) > 0 && !slices.Contains(o.rports, uint(c.rport)) {
		return false
	}
	if len(f.Pids)+len(f.Tids)+len(f.Comms) > 0 && !s.owned(c) {
		return false
	}
	if o.v4 || o.v6 {
		n := s.view.names
		v6 := familyOf(c.family, plainAddr(n.String(c.laddr)), plainAddr(n.String(c.raddr))) == 6
		if v6 != o.v6 {
			return false
		}
	}
	if o.open && c.over() {
		return false
	}
	if !o.failed && o.closedBy == "" && len(o.verdicts) == 0 {
		return true
	}
	e := s.view.judge.ending(c)
	return (!o.failed || e.verdict.failed() || e.errno != 0) &&
		(o.closedBy == "" || tcpParties[e.by] == o.closedBy) &&
		(len(o.verdicts) == 0 || slices.Contains(o.verdicts, e.verdict.String()))
}

func (s *tcpSelect) owned(c *tcpConn) bool {
	f := &s.filter
	t := s.view.names.Task(c.owner)
	return (len(f.Pids) == 0 || slices.Contains(f.Pids, t.Pid)) &&
		(len(f.Tids) == 0 || slices.Contains(f.Tids, t.Tid)) &&
		(len(f.Comms) == 0 || slices.Contains(f.Comms, t.Comm))
}

// tcpOrders compare two connections; ties keep the order of first sight.
var tcpOrders = map[string]func(v *tcpView, a, b *tcpConn) int{
	"opened":      func(_ *tcpView, a, b *tcpConn) int { return cmp.Compare(a.begin(), b.begin()) },
	"closed":      func(v *tcpView, a, b *tcpConn) int { return cmp.Compare(v.judge.lifeEnd(a), v.judge.lifeEnd(b)) },
	"duration":    func(v *tcpView, a, b *tcpConn) int { return cmp.Compare(v.life(b), v.life(a)) },
	"tx":          func(_ *tcpView, a, b *tcpConn) int { return cmp.Compare(b.tx, a.tx) },
	"rx":          func(_ *tcpView, a, b *tcpConn) int { return cmp.Compare(b.rx, a.rx) },
	"bytes":       func(_ *tcpView, a, b *tcpConn) int { return cmp.Compare(addSat(b.tx, b.rx), addSat(a.tx, a.rx)) },
	"retransmits": func(_ *tcpView, a, b *tcpConn) int { return cmp.Compare(b.sent(), a.sent()) },
	"rtt":         func(_ *tcpView, a, b *tcpConn) int { return cmp.Compare(b.minRtt, a.minRtt) },
	"pid":         func(v *tcpView, a, b *tcpConn) int { return cmp.Compare(v.pid(a), v.pid(b)) },
}

func tcpOrderNames() []string { return sortedKeys(tcpOrders) }

// begin is the birth, or the first sight of one that is older.
func (c *tcpConn) begin() int64 {
	if c.opened != 0 {
		return c.opened
	}
	return c.first
}

func (v *tcpView) life(c *tcpConn) int64 { return v.judge.lifeEnd(c) - c.begin() }

func (v *tcpView) pid(c *tcpConn) uint32 { return v.names.Task(c.owner).Pid }
