package analyze

import (
	"cmp"
	"slices"

	"github.com/tcap-dev/tcap/format"
)

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
	if len(o.lports) > 0 && !slices.Contains(o.lports, c.lport) ||
		len(o.rports) > 0 && !slices.Contains(o.rports, c.rport) {
		return false
	}
	if len(f.Pids)+len(f.Tids)+len(f.Comms) > 0 && !s.owned(c) {
		return false
	}
	if o.v4 != o.v6 {
		n := s.view.names
		v6 := familyOf(c.family, plainAddr(n.String(c.laddr)), plainAddr(n.String(c.raddr))) == 6
		if v6 != o.v6 {
			return false
		}
	}
	if o.open && c.over() {
		return false
	}
	if !o.failed && o.closedBy.is == "" && len(o.verdicts.are) == 0 {
		return true
	}
	e := s.view.judge.ending(c)
	return (!o.failed || e.verdict.failed() || e.errno != 0) &&
		(o.closedBy.is == "" || tcpParties[e.by] == o.closedBy.is) &&
		(len(o.verdicts.are) == 0 || slices.Contains(o.verdicts.are, e.verdict.String()))
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

// begin is the birth, or the first sight of one that is older.
func (c *tcpConn) begin() int64 {
	if c.opened != 0 {
		return c.opened
	}
	return c.first
}

func (v *tcpView) life(c *tcpConn) int64 { return v.judge.lifeEnd(c) - c.begin() }

func (v *tcpView) pid(c *tcpConn) uint32 { return v.names.Task(c.owner).Pid }
