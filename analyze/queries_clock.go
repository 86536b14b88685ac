package analyze

import "github.com/tcap-dev/tcap/format"

// tcap sees a query begin and end by traps, and between a trap and the server's own
// reading of its clock the thread can lose its CPU. So where a pack reads what the
// server's clock said, a query's time is made of that, and no trap is in it.
//
// What was read is believed only if it can be true: both readings are of
// CLOCK_MONOTONIC, as the events' times are, so they lie within the call, in their
// order. What is not there, as in another version's structure, does not.

// An answer is where a server began to answer, and the time that it took until then
// by its own clock, if that was recorded.
type answer struct {
	at         int64 // ns on the clock of the events
	begin, end int64 // the server's, ns; as many as 999 earlier if it counts in us
	read       bool  // the probe reads them
	bad        bool  // and here could not
}

// clockSlack is how far readings of one clock may be apart for other reasons than
// time that passes, ns: the kernel's is a fast one, which may be a little behind.
const clockSlack = 10_000

// maxAnswers is how many statements of one packet are kept. Those of a packet with more
// have tcap's time.
const maxAnswers = 1 << 12

// readings is the answer that a call tells of.
func readings(c *format.Call, at int64) answer {
	a := answer{at: at}
	for _, arg := range []struct {
		begin, end string
		unit       int64
	}{{"begin_ns", "end_ns", 1}, {"begin_us", "end_us", 1000}} {
		if c.Probe.ArgIndex(arg.begin) < 0 || c.Probe.ArgIndex(arg.end) < 0 {
			continue
		}
		begin, ok := c.Int(arg.begin)
		end, ok2 := c.Int(arg.end)
		a.read, a.bad = true, !ok || !ok2 || begin <= 0 || end < begin || end > latencyTop/arg.unit
		if !a.bad {
			a.begin, a.end = begin*arg.unit, end*arg.unit
			a.bad = a.end > at+clockSlack
		}
		return a
	}
	return a
}

// answer notes where a thread's server began an answer. What comes again and goes on,
// as when a procedure has one result after the other, is one.
func (s *queryStream) answer(c *format.Call) {
	tid := s.r.Task(c.Task).Tid
	list, a := s.answered[tid], readings(c, c.Entry)
	if n := len(list); n > 0 {
		last := list[n-1]
		if !a.read && !last.read || !a.bad && !last.bad && a.begin == last.begin && a.end >= last.end {
			list[n-1] = a
			return
		}
		if n == maxAnswers {
			list = list[:n-1]
			a.bad = true
		}
	}
	s.answered[tid] = append(list, a)
}

// measure tells a query of the answers that were begun in a call which executes it, or
// a part of it, and forgets them and those before: what is answered outside of such a call
// is no query.
func (s *queryStream) measure(q *query, c *format.Call) {
	q.end = c.Return
	list := s.take(c)
	if c.Outcome != format.CallReturned {
		return
	}
	if a := readings(c, c.Return); a.read {
		list = append(list, a)
	}
	for _, a := range list {
		if a.at > c.Entry && a.at <= c.Return {
			q.end = a.at
			q.server.add(a)
		}
	}
}

// take removes the answers of a call's thread.
func (s *queryStream) take(c *format.Call) []answer {
	tid := s.r.Task(c.Task).Tid
	list := s.answered[tid]
	s.answered[tid] = list[:0]
	return list
}

// finish decides how long a query took, and by whose clock.
func (q *query) finish() {
	if q.executed.read && q.parts == 1 {
		q.server = serverTime{}
		q.server.add(q.executed)
	}
	if q.duration = max(q.end-q.start, 0); q.server.usable(q.start) {
		q.duration, q.byServer = q.server.sum, true
	}
}

// clock names the clock of a query's time.
func (q *query) clock() string {
	if q.byServer {
		return "server"
	}
	return "tcap"
}

// A serverTime is how long a packet's statements took, as the server says. Their
// sum is what it counts: between two of them it writes its log.
type serverTime struct {
	first      int64 // when the first began
	begin, end int64 // of the last
	sum        int64
	n          int
	bad        bool
}

// add takes an answer. Of those of one packet each is later.
func (t *serverTime) add(a answer) {
	switch {
	case !a.read || a.bad || t.n > 0 && a.end < t.end:
		t.bad = true
		return
	case t.n == 0 || a.begin <= t.first: // the whole again, as a procedure, after its results
		t.first, t.begin, t.sum = a.begin, a.begin, a.end-a.begin
	case a.begin >= t.end: // the next statement
		t.begin = a.begin
		t.sum += a.end - a.begin
	case a.begin == t.begin: // the last one goes on
		t.sum += a.end - t.end
	default:
		t.bad = true
	}
	t.end = a.end
	t.n++
}

// usable reports whether it is the time of a query that tcap saw begin then.
func (t *serverTime) usable(start int64) bool {
	const unit = 1000 // that the beginning may have been cut to
	return t.n > 0 && !t.bad && t.first >= start-unit-clockSlack
}
