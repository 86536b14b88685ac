package analyze

import (
	"cmp"
	"slices"

	"github.com/tcap-dev/tcap/format"
)

// closeJoin finds the application's call that closed a connection.
//
// The kernel changes a connection's state inside the call of the thread that
// closes it. So a call and a change belong together if they are the same
// thread's and the change lies between the call's entry and its return. Neither
// a descriptor nor the address of the program's own record of a connection is
// asked for: both are used again by the next connection.
type closeJoin struct {
	r     *format.Reader
	buf   format.Call
	calls map[closeThread][]closeCall
}

type closeThread struct{ pid, tid uint32 }

// A closeCall is a call of a function whose probe has the role close.
type closeCall struct {
	entry, end int64 // ns; end is maxTime where the return was not probed
	probe      format.ProbeID
}

func newCloseJoin(r *format.Reader) *closeJoin {
	return &closeJoin{r: r, calls: map[closeThread][]closeCall{}}
}

func (j *closeJoin) call(e *format.Event) {
	if err := j.r.Call(e, &j.buf); err != nil || j.buf.Probe.Role != roleClose {
		return // one that cannot be read is a matter of print and verify
	}
	c := &j.buf
	call := closeCall{c.Entry, c.Return, c.ID}
	switch c.Outcome {
	case format.CallEntered, format.CallUnfinished:
		call.end = maxTime
	case format.CallUnentered:
		return
	}
	t := j.r.Task(e.Task)
	k := closeThread{t.Pid, t.Tid}
	j.calls[k] = append(j.calls[k], call)
}

// join returns the calls around the change by which each connection's own side
// was closed, the outermost first.
func (j *closeJoin) join(conns []*tcpConn) map[*tcpConn][]closeCall {
	out := map[*tcpConn][]closeCall{}
	if len(j.calls) == 0 {
		return out
	}
	acts := map[closeThread][]*tcpConn{}
	for _, c := range conns {
		if c.closer != 0 {
			t := j.r.Task(c.closer)
			k := closeThread{t.Pid, t.Tid}
			acts[k] = append(acts[k], c)
		}
	}
	for k, list := range acts {
		calls := j.calls[k]
		if len(calls) == 0 {
			continue
		}
		slices.SortFunc(list, func(a, b *tcpConn) int { return cmp.Compare(a.acted, b.acted) })
		slices.SortStableFunc(calls, func(a, b closeCall) int {
			return cmp.Or(cmp.Compare(a.entry, b.entry), cmp.Compare(b.end, a.end))
		})
		boundEntries(calls)
		joinThread(calls, list, out)
	}
	return out
}

// boundEntries ends a call without a known return where the same thread enters
// the same function again.
func boundEntries(calls []closeCall) {
	next := map[format.ProbeID]int64{}
	for i := len(calls) - 1; i >= 0; i-- {
		c := &calls[i]
		if at, ok := next[c.probe]; ok && c.end == maxTime {
			c.end = at - 1
		}
		next[c.probe] = c.entry
	}
}

// joinThread sweeps over one thread's calls and changes, both by time. A call
// without a known return belongs to the first change after it only.
func joinThread(calls []closeCall, conns []*tcpConn, out map[*tcpConn][]closeCall) {
	var open []closeCall
	at := 0
	for _, c := range conns {
		for at < len(calls) && calls[at].entry <= c.acted {
			open = append(open, calls[at])
			at++
		}
		kept := open[:0]
		for _, call := range open {
			if call.end < c.acted {
				continue
			}
			out[c] = append(out[c], call)
			if call.end != maxTime {
				kept = append(kept, call)
			}
		}
		open = kept
	}
}
