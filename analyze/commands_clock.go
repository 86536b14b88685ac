package analyze

import "github.com/tcap-dev/tcap/format"

// A server that counts the time of its commands reads its clock inside of the function
// that is probed, whose entry and return trap: the rest of the first trap and the way
// into the second are in tcap's interval and not in the server's. They take
// microseconds, many commands less than one. So where the pack reads by how much the
// server's count grew, sums are made of that. A count of whole microseconds says
// nothing of quantiles below them, though; there tcap's clock tells more, less what a
// call takes between the two.

// serverCount is what the server counted of a call, and the unit of its count, both in
// ns. One that went backwards was reset and says nothing.
func serverCount(c *format.Call) (ns, unit int64, ok bool) {
	for _, arg := range []struct {
		name string
		unit int64
	}{{"used_ns", 1}, {"used_us", 1000}} {
		if n, ok := c.Int(arg.name); ok && n >= 0 && n <= latencyTop/arg.unit {
			return n * arg.unit, arg.unit, true
		}
	}
	return 0, 0, false
}

// A clockGap is what the calls of a process take by tcap's clock and not by the
// server's, a mean over the last ones: it is the price of two traps, which changes with
// what else the machine does. That a server cuts its readings to whole units cancels
// out in a mean.
type clockGap struct {
	calls int
	ns    float64
}

const gapCalls = 64 // that the mean is over

// within is how long a call took: in the unit that the server counted, as far as
// tcap's clock tells.
func (g *clockGap) within(own, count, unit int64) int64 {
	gap := float64(own - count)
	if g.calls > 0 { // one that lost its CPU in between says nothing of the others
		gap = min(gap, 2*max(g.ns, 0)+float64(unit))
	}
	g.calls = min(g.calls+1, gapCalls)
	g.ns += (gap - g.ns) / float64(g.calls)
	return max(min(max(g.less(own), count-unit), count+unit), 0)
}

// less is the time of a call without the gap.
func (g *clockGap) less(own int64) int64 { return max(own-max(int64(g.ns), 0), 0) }
