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
// a descriptor nor the address of the program's own record of a connection tells
// that: both are used again by the next connection.
//
// A return costs the program a second trap, and is not needed where the entry says
// by its argument fd which descriptor the function will close: it closes what the
// process got by that descriptor before. What is closed otherwise, be it by the same
// thread and next, has another, or has it since later, or nobody knows its descriptor.
type closeJoin struct {
	r     *format.Reader
	buf   format.Call
	calls map[closeThread][]closeCall
}

type closeThread struct{ pid, tid uint32 }

// A closeCall is a call of a function whose probe has the role close.
type closeCall struct {
	entry, end int64 // ns; end is maxTime where nothing tells of it
	returned   bool  // the return was seen
	fd         int64 // -1 where it does not tell
	probe      format.ProbeID
	caller     format.StackID
}

func newCloseJoin(r *format.Reader) *closeJoin {
	return &closeJoin{r: r, calls: map[closeThread][]closeCall{}}
}

func (j *closeJoin) call(e *format.Event) {
	if err := j.r.Call(e, &j.buf); err != nil || j.buf.Probe.Role != format.RoleClose {
		return // one that cannot be read is a matter of print and verify
	}
	c := &j.buf
	call := closeCall{entry: c.Entry, end: c.Return, returned: true, fd: -1, probe: c.ID, caller: c.Stack}
	if fd, ok := c.Int(closeFd); ok {
		if fd < 0 {
			return // it is closed already
		}
		call.fd = fd
	}
	switch c.Outcome {
	case format.CallEntered, format.CallUnfinished:
		call.end, call.returned = maxTime, false
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
		j.joinThread(k.pid, calls, list, out)
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

// mayClose reports whether a call of a process without a known return can have closed the
// connection.
func (j *closeJoin) mayClose(call *closeCall, pid uint32, c *tcpConn) bool {
	return call.fd < 0 || c.fd != 0 && call.fd == int64(c.fd)-1 && call.entry >= c.owned && j.r.Task(c.namer).Pid == pid
}

// joinThread sweeps over one thread's calls and changes, both by time. A call
// without a known return belongs to the first change after it only, of those that
// it may have caused.
func (j *closeJoin) joinThread(pid uint32, calls []closeCall, conns []*tcpConn, out map[*tcpConn][]closeCall) {
	var open []closeCall
	at := 0
	for _, c := range conns {
		for at < len(calls) && calls[at].entry <= c.acted {
			open = append(open, calls[at])
			at++
		}
		kept := open[:0]
		for _, call := range open {
			switch {
			case call.end < c.acted:
			case call.returned:
				out[c] = append(out[c], call)
				kept = append(kept, call)
			case j.mayClose(&call, pid, c):
				out[c] = append(out[c], call)
			default:
				kept = append(kept, call) // it may close another one on its way
			}
		}
		open = kept
	}
}

// functions are those that closed a connection, the outermost first, which is the
// caller of the outermost call where that was recorded and has a name.
func (j *closeJoin) functions(calls []closeCall) (names []string) {
	for i, call := range calls {
		if i == 0 && call.caller != 0 {
			if f := j.r.Stack(call.caller, nil); len(f) > 0 && f[0].Function != "" {
				names = append(names, f[0].Function)
			}
		}
		p, _ := j.r.Probe(call.probe)
		names = append(names, cmp.Or(p.Symbol, p.Name))
	}
	return names
}
