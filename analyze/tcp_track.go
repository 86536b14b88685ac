package analyze

import (
	"math"

	"github.com/tcap-dev/tcap/format"
)

// tcpChunk is how many records are allocated at a time: growing one slice of a
// million would copy them all and hold both copies.
const tcpChunk = 4096

// tcpTracker folds events into connections, in file order.
//
// Nothing is assumed about the order of events of different kinds: an accept
// may be told before the child's handshake is (TCP Fast Open), an RST after the
// CLOSE it caused, addresses before or after the state that needed them. So a
// record stays reachable by its socket after its end, and any event may be the
// first that is seen of a connection.
type tcpTracker struct {
	latest map[uint64]*tcpConn // by socket cookie: its current or last session
	chunks [][]tcpConn
	last   int64 // newest event, ns
}

func newTCPTracker() *tcpTracker {
	return &tcpTracker{latest: make(map[uint64]*tcpConn)}
}

// all calls f on every record in the order of first sight.
func (t *tcpTracker) all(f func(*tcpConn)) {
	for i := range t.chunks {
		for j := range t.chunks[i] {
			f(&t.chunks[i][j])
		}
	}
}

func (t *tcpTracker) alloc(id uint64, now int64) *tcpConn {
	n := len(t.chunks) - 1
	if n < 0 || len(t.chunks[n]) == tcpChunk {
		t.chunks = append(t.chunks, make([]tcpConn, 0, tcpChunk))
		n++
	}
	t.chunks[n] = append(t.chunks[n], tcpConn{id: id, first: now, last: now})
	return &t.chunks[n][len(t.chunks[n])-1]
}

// get returns the socket's current record, making it when there is none.
func (t *tcpTracker) get(id uint64, now int64) *tcpConn {
	c := t.latest[id]
	if c == nil {
		c = t.alloc(id, now)
		t.latest[id] = c
	}
	c.first, c.last = min(c.first, now), max(c.last, now)
	return c
}

// renew starts another session of a socket that is used again: a socket whose
// connect failed may connect once more, and it keeps its cookie.
func (t *tcpTracker) renew(old *tcpConn, now int64) *tcpConn {
	c := t.alloc(old.id, now)
	c.netns, c.family, c.uid, c.laddr = old.netns, old.family, old.uid, old.laddr
	t.latest[old.id] = c
	return c
}

// event folds one event in.
func (t *tcpTracker) event(e *format.Event) {
	t.last = max(t.last, e.Time)
	id := e.V[format.TCPConn]
	if e.Kind == format.KindTCPConnect {
		t.connect(e)
		return
	}
	if id == 0 { // an RST about no socket, or a record that lost its identity
		return
	}
	switch e.Kind {
	case format.KindTCPEndpoints:
		t.endpoints(t.get(id, e.Time), e)
	case format.KindTCPState:
		t.state(t.get(id, e.Time), e)
	case format.KindTCPAccept:
		t.accept(t.get(id, e.Time), e)
	case format.KindTCPSnapshot:
		t.snapshot(t.get(id, e.Time), e)
	case format.KindTCPRetransmit:
		t.retransmit(e)
	case format.KindTCPReset:
		t.reset(e)
	case format.KindTCPDestroy:
		t.destroy(e)
	}
}

func (t *tcpTracker) endpoints(c *tcpConn, e *format.Event) {
	v := &e.V
	raddr, rport := format.StringID(v[format.EndpointsRaddr]), sat16(v[format.EndpointsRport])
	if c.over() && rport != 0 && c.rport != 0 && (rport != c.rport || raddr != c.raddr) {
		// The addresses of the socket's next session, told ahead of it.
		c = t.renew(c, e.Time)
	}
	if ns := v[format.EndpointsNetns]; ns != 0 {
		c.netns = ns
	}
	if f := sat8(v[format.EndpointsFamily]); f != 0 {
		c.family = f
	}
	// A port of 0 is one that is not known yet (SYN_SENT) or no longer
	// (after CLOSE): the addresses beside it say nothing either.
	if p := sat16(v[format.EndpointsLport]); p != 0 || c.lport == 0 {
		c.lport = p
		if s := format.StringID(v[format.EndpointsLaddr]); s != 0 {
			c.laddr = s
		}
	}
	if rport != 0 || c.rport == 0 {
		c.rport = rport
		if raddr != 0 {
			c.raddr = raddr
		}
	}
	if c.ownerFrom == ownerUnknown {
		c.uid = sat32(v[format.EndpointsUid])
	}
}

func (t *tcpTracker) state(c *tcpConn, e *format.Event) {
	from, to := e.V[format.StateOld], e.V[format.StateNew]
	switch {
	case to == format.TCPListen:
		if c.reported() { // it was a connection once, and now listens
			c = t.renew(c, e.Time)
		}
		c.listens(e)
		return
	case from == format.TCPListen && to != format.TCPSynRecv:
		c.flags |= tcpListener
		return
	case from == format.TCPClose && to == format.TCPSynSent:
		c = t.born(c, e, tcpConnect)
		if e.V[format.StateProcess] != 0 {
			c.own(e.Task, ownerConnect)
		}
	case from == format.TCPListen && to == format.TCPSynRecv:
		c = t.born(c, e, tcpAccept)
	case c.flags.has(tcpClosed):
		c.flags |= tcpGap // its birth is missing: nothing changes the state of a closed socket
		return
	}
	t.step(c, e, uint8(min(from, 255)), uint8(min(to, 255)))
}

// listens makes the record a listener's, whose owner is a good guess at the
// owner of what it never came to accept.
func (c *tcpConn) listens(e *format.Event) {
	c.flags |= tcpListener
	c.own(e.Task, ownerListener)
}

// born begins a session: in a fresh record, or in the one that events before
// this one have opened.
func (t *tcpTracker) born(c *tcpConn, e *format.Event, d tcpDirection) *tcpConn {
	if c.flags.has(tcpHasState|tcpFailedCall|tcpListener) || c.over() {
		if !c.over() {
			c.flags |= tcpGap // its end is missing
		}
		c = t.renew(c, e.Time)
	}
	c.opened, c.direction = e.Time, d
	c.flags &^= tcpPre
	return c
}

// step takes one change of state.
func (t *tcpTracker) step(c *tcpConn, e *format.Event, from, to uint8) {
	v := &e.V
	proc := v[format.StateProcess] != 0
	shut := sat8(v[format.StateShutdown])
	switch {
	case c.flags.has(tcpHasState) && c.state != from:
		c.flags |= tcpGap
	case !c.flags.has(tcpHasState) && c.opened == 0:
		c.unborn(from, e.Time)
	}
	c.flags |= tcpHasState | tcpProven
	c.state = to
	c.implied(from, to, shut)
	c.count(v[format.StateTx], v[format.StateRx], v[format.StateRetransmits], v[format.StateMinRtt])
	// At CLOSE the estimate is polluted by the delayed ACK of our FIN.
	if s := sat32(v[format.StateSrtt]); s != 0 && (to != format.TCPClose || c.srtt == 0) {
		c.srtt = s
	}

	switch to {
	case format.TCPEstablished:
		if c.established == 0 {
			c.established = e.Time
		}
	case format.TCPFinWait1, format.TCPCloseWait, format.TCPClose:
		if c.exit == 0 && from != format.TCPSynSent {
			c.exit, c.exitShut, c.exited = to, shut, e.Time
		}
	}
	if proc && (to == format.TCPFinWait1 || to == format.TCPLastAck || to == format.TCPClose) && c.closer == 0 {
		c.closer, c.acted = e.Task, e.Time
		c.act, c.sinceCall = sat8(v[format.StateProcess]), sat32(v[format.StateSinceCall])
		c.own(e.Task, ownerClose)
	}
	if to == format.TCPClose {
		c.closed, c.closeOld, c.closeShut = e.Time, from, shut
		c.closeErr = sat16(v[format.StateErr])
		c.flags |= tcpClosed
		if proc {
			c.flags |= tcpCloseProc
			c.ender = e.Task
		}
	}
}

// unborn is the first change of state of a connection whose birth was not seen.
func (c *tcpConn) unborn(from uint8, now int64) {
	switch from {
	case format.TCPSynRecv: // only a passive open is born there; its 10->3 is not told on every kernel
		c.opened, c.direction = now, tcpAccept
	case format.TCPSynSent:
		c.direction = tcpConnect
		c.flags |= tcpPre
	default:
		c.flags |= tcpPre
	}
}

// implied takes what a state proves about the steps before it, where those
// were not seen: FIN_WAIT and CLOSING that the local FIN came first, CLOSE_WAIT
// and LAST_ACK that the peer's did.
func (c *tcpConn) implied(from, to, shut uint8) {
	if c.exit != 0 {
		return
	}
	switch from {
	case format.TCPFinWait1, format.TCPFinWait2, format.TCPClosing:
		c.exit, c.exitShut = format.TCPFinWait1, 0
		if from == format.TCPFinWait1 && to == format.TCPFinWait2 {
			c.exitShut = shut // the peer's FIN is still to come: no bit but ours
		}
	case format.TCPCloseWait, format.TCPLastAck:
		c.exit, c.exitShut = format.TCPCloseWait, 1
	}
}

func (t *tcpTracker) accept(c *tcpConn, e *format.Event) {
	c.flags |= tcpAccepted | tcpProven
	if c.direction == tcpUnknown {
		c.direction = tcpAccept
	}
	if c.own(e.Task, ownerAccept) {
		c.uid = sat32(e.V[format.AcceptUid])
	}
	c.named(e.Task, e.V[format.AcceptFd], e.Time)
}

// named takes the descriptor by which a task's process has it, the first that is told, and
// since when at the latest.
func (c *tcpConn) named(by format.TaskID, fd uint64, at int64) {
	if c.fd == 0 && fd < math.MaxInt32 {
		c.namer, c.fd, c.owned = by, uint32(fd)+1, at
	}
}

func (t *tcpTracker) snapshot(c *tcpConn, e *format.Event) {
	v := &e.V
	state := sat8(v[format.SnapshotState])
	switch state {
	case format.TCPListen:
		if !c.reported() {
			c.listens(e)
		}
		return
	case format.TCPClose: // never connected, or over
		return
	}
	c.flags |= tcpHeld | tcpProven
	if c.own(e.Task, ownerSnapshot) {
		c.uid = sat32(v[format.SnapshotUid])
	}
	if c.over() {
		return
	}
	if c.opened == 0 {
		c.flags |= tcpPre
	}
	if v[format.SnapshotWhen] == format.SnapshotEnd {
		c.flags |= tcpSnapEnd
	} else {
		c.named(e.Task, v[format.SnapshotFd], e.Time)
	}
	c.count(v[format.SnapshotTx], v[format.SnapshotRx], v[format.SnapshotRetransmits], v[format.SnapshotMinRtt])
	if s := sat32(v[format.SnapshotSrtt]); s != 0 {
		c.srtt = s
	}
	if c.flags.has(tcpHasState) {
		return // events are exact where a snapshot races with them
	}
	c.state = state
	c.snapshotState(state)
}

// snapshotState takes what the state of a connection that is older than the
// recording says about its past.
func (c *tcpConn) snapshotState(state uint8) {
	if c.direction == tcpUnknown {
		switch state {
		case format.TCPSynSent:
			c.direction = tcpConnect
		case format.TCPSynRecv:
			c.direction = tcpAccept
		}
	}
	if c.exit != 0 {
		return
	}
	switch state {
	case format.TCPFinWait1, format.TCPFinWait2:
		// A task still holds it, so it was not closed but shut down.
		c.exit, c.exitShut = format.TCPFinWait1, 2
	case format.TCPClosing:
		c.exit, c.exitShut = format.TCPFinWait1, 0
	case format.TCPCloseWait, format.TCPLastAck:
		c.exit, c.exitShut = format.TCPCloseWait, 1
	}
}

func (t *tcpTracker) retransmit(e *format.Event) {
	state := sat8(e.V[format.RetransmitState])
	if state == format.TCPListen || state == format.TCPNewSynRecv {
		return // a half-open connection: the socket is the listener's
	}
	c := t.get(e.V[format.TCPConn], e.Time)
	c.resent++
	if !c.flags.has(tcpHasState|tcpProven) && state != 0 && state != format.TCPClose {
		c.flags |= tcpProven | tcpPre
		c.state = state
		c.snapshotState(state)
		if c.exit == format.TCPFinWait1 {
			c.exitShut = 0 // nobody need hold it: closed or shut down
		}
	}
}

func (t *tcpTracker) reset(e *format.Event) {
	c := t.latest[e.V[format.TCPConn]]
	state := sat8(e.V[format.ResetState])
	if c == nil || state == format.TCPListen || state == format.TCPTimeWait || state == format.TCPNewSynRecv {
		return // about a listener or a TIME_WAIT stand-in, not about the connection
	}
	c.last = max(c.last, e.Time)
	if e.V[format.ResetDirection] == format.ResetReceived {
		c.flags |= tcpResetSeen
		c.resetInWhat = state
		return
	}
	c.flags |= tcpResetSent
	c.resetReason = sat16(e.V[format.ResetReason])
}

func (t *tcpTracker) destroy(e *format.Event) {
	c := t.latest[e.V[format.TCPConn]]
	if c == nil {
		return // a socket that never was a connection here
	}
	c.last = max(c.last, e.Time)
	v := &e.V
	c.disconnect = sat8(v[format.DestroyDisconnected])
	c.idle = int64(min(v[format.DestroyIdle], uint64(maxTime)))
	if !c.flags.has(tcpClosed) {
		if c.flags.has(tcpHasState) {
			c.flags |= tcpGap // CLOSE always comes before
		}
		c.count(v[format.DestroyTx], v[format.DestroyRx], v[format.DestroyRetransmits], v[format.DestroyMinRtt])
	}
	c.flags |= tcpDestroyed
}
