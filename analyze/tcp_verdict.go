package analyze

import "github.com/tcap-dev/tcap/format"

// A tcpVerdict says how a connection ended. docs/verdicts.md tells the evidence
// that each needs.
type tcpVerdict uint8

const (
	verdictUnknown tcpVerdict = iota
	verdictLocalClose
	verdictLocalShutdown
	verdictLocalAbort
	verdictLocalUnreadData
	verdictPeerFin
	verdictPeerReset
	verdictPeerResetAfterFin
	verdictTimeout
	verdictKilled
	verdictNeverAccepted
	verdictRefused
	verdictConnectTimeout
	verdictConnectAbandoned
	verdictStillOpen
	verdictCount
)

// tcpVerdicts are the names in every output.
var tcpVerdicts = [verdictCount]string{
	"unknown", "local_close", "local_shutdown", "local_abort", "local_unread_data", "peer_fin", "peer_reset",
	"peer_reset_after_fin", "timeout", "killed", "never_accepted", "refused", "connect_timeout", "connect_abandoned",
	"still_open",
}

func (v tcpVerdict) String() string { return tcpVerdicts[v] }

// failed says whether the application met an error rather than an end.
func (v tcpVerdict) failed() bool {
	switch v {
	case verdictPeerReset, verdictPeerResetAfterFin, verdictTimeout, verdictKilled, verdictNeverAccepted,
		verdictRefused, verdictConnectTimeout, verdictConnectAbandoned:
		return true
	}
	return false
}

// tcpParty is who brought the end about.
type tcpParty uint8

const (
	byUnknown tcpParty = iota
	byLocal
	byPeer
	byKernel
)

var tcpParties = []string{"", "local", "peer", "kernel"}

// tcpEnding is the verdict on one connection.
type tcpEnding struct {
	verdict tcpVerdict
	by      tcpParty
	errno   uint16
	note    string
}

// tcpJudge derives endings from what was seen. It reads nothing but the
// records, so it can be asked again for each output.
type tcpJudge struct {
	losses  windows // in which events about connections were lost
	end     int64   // of the recording, ns
	reasons bool    // the kernel gives reasons for its resets, numbered as rstReasons
}

// incomplete says whether something about the connection may have been lost:
// a step between two that were seen, everything but a call, or whatever fell
// into a window of loss. One whose birth was not seen either is older than the
// recording, or was born in such a window.
func (j *tcpJudge) incomplete(c *tcpConn) bool {
	switch {
	case c.flags.has(tcpFailedCall):
		return false // its one event says it all
	case c.flags.has(tcpGap), !c.flags.has(tcpCounted), j.losses.overlap(c.first, j.lifeEnd(c)):
		return true
	}
	return c.flags.has(tcpPre) && !c.flags.has(tcpHeld) && j.losses.overlap(0, c.first)
}

// lifeEnd is when the connection ended, as far as is known.
func (j *tcpJudge) lifeEnd(c *tcpConn) int64 {
	switch {
	case c.flags.has(tcpClosed | tcpFailedCall):
		return max(c.closed, c.first)
	case c.flags.has(tcpDestroyed):
		return c.last
	}
	return max(j.end, c.last)
}

// ending decides, from the first step out of ESTABLISHED and from what the
// socket said when it became CLOSE. Reset reasons only refine: most kernels have
// none.
func (j *tcpJudge) ending(c *tcpConn) tcpEnding {
	switch {
	case c.flags.has(tcpFailedCall):
		return judgeCall(c)
	case c.flags.has(tcpClosed) && c.closeOld == format.TCPSynSent:
		return judgeConnect(c)
	case c.flags.has(tcpClosed):
		return j.judgeClose(c)
	case c.flags.has(tcpDestroyed):
		return judgeVanished(c)
	}
	return j.judgeOpen(c)
}

// judgeCall: connect(2) failed and the socket never left CLOSE, so no SYN went
// out.
func judgeCall(c *tcpConn) tcpEnding {
	return tcpEnding{verdict: verdictRefused, by: byKernel, errno: c.connErrno}
}

// judgeConnect: SYN_SENT became CLOSE.
func judgeConnect(c *tcpConn) tcpEnding {
	err := c.closeErr
	switch {
	case err == eCONNREFUSED:
		return tcpEnding{verdict: verdictRefused, by: byPeer, errno: err}
	case err == eCONNABORTED:
		return tcpEnding{verdict: verdictKilled, by: byKernel, errno: err}
	case unanswered(err):
		return tcpEnding{verdict: verdictConnectTimeout, by: byKernel, errno: err}
	case err != 0:
		return tcpEnding{verdict: verdictUnknown, by: byKernel, errno: err}
	case c.closeShut == 3:
		return tcpEnding{verdict: verdictConnectAbandoned, by: byLocal}
	case c.connErrno != 0: // the kernel took its SYN_SENT back: no free port, a firewall's rule
		return tcpEnding{verdict: verdictRefused, by: byKernel, errno: c.connErrno}
	case c.flags.has(tcpCloseProc): // connect(AF_UNSPEC)
		return tcpEnding{verdict: verdictConnectAbandoned, by: byLocal}
	}
	return tcpEnding{verdict: verdictUnknown}
}

// judgeClose: a connection that had been established became CLOSE.
func (j *tcpJudge) judgeClose(c *tcpConn) tcpEnding {
	var e tcpEnding
	switch c.exit {
	case format.TCPFinWait1:
		e = judgeLocalFin(c)
	case format.TCPCloseWait:
		e = judgePeerFin(c)
	case format.TCPClose:
		e = j.judgeAtOnce(c)
	}
	e.errno = c.closeErr
	return e
}

// judgeLocalFin: the local FIN went first. After a close nobody hears of what
// the peer did next; after a shutdown(SHUT_WR) somebody still waited for it.
func judgeLocalFin(c *tcpConn) tcpEnding {
	if c.exitShut == 3 {
		return tcpEnding{verdict: verdictLocalClose, by: byLocal}
	}
	if e, ok := judgeError(c.closeErr); ok {
		return e
	}
	if c.exitShut == 0 { // the FIN was not seen itself
		return tcpEnding{verdict: verdictUnknown, by: byLocal, note: "closed or shut down before it was seen"}
	}
	return tcpEnding{verdict: verdictLocalShutdown, by: byLocal}
}

// judgePeerFin: the peer's FIN came first.
func judgePeerFin(c *tcpConn) tcpEnding {
	switch {
	case c.closeErr == ePIPE, c.closeErr == eCONNRESET:
		return tcpEnding{verdict: verdictPeerResetAfterFin, by: byPeer}
	case c.closeOld == format.TCPLastAck:
		return tcpEnding{verdict: verdictPeerFin, by: byPeer}
	case c.unaccepted():
		return tcpEnding{verdict: verdictNeverAccepted, by: byLocal}
	}
	if e, ok := judgeError(c.closeErr); ok {
		return e
	}
	return tcpEnding{verdict: verdictPeerFin, by: byPeer}
}

// judgeAtOnce: ESTABLISHED became CLOSE without a FIN either way.
func (j *tcpJudge) judgeAtOnce(c *tcpConn) tcpEnding {
	if e, ok := judgeError(c.closeErr); ok {
		return e
	}
	switch {
	case c.closeErr != 0:
		return tcpEnding{verdict: verdictUnknown, by: byKernel}
	case c.unaccepted():
		return tcpEnding{verdict: verdictNeverAccepted, by: byLocal}
	case c.closeShut == 3, c.flags.has(tcpCloseProc):
		return j.judgeAbort(c)
	case c.flags.has(tcpResetSeen):
		return tcpEnding{verdict: verdictPeerReset, by: byPeer}
	}
	return tcpEnding{verdict: verdictUnknown}
}

// judgeError: the errors that name their cause.
func judgeError(errno uint16) (tcpEnding, bool) {
	switch {
	case errno == eCONNABORTED: // only tcp_abort sets it: ss -K, SOCK_DESTROY
		return tcpEnding{verdict: verdictKilled, by: byKernel}, true
	case errno == eCONNRESET:
		return tcpEnding{verdict: verdictPeerReset, by: byPeer}, true
	case unanswered(errno), errno == eCONNREFUSED: // the latter is an ICMP's word as well, once established
		return tcpEnding{verdict: verdictTimeout, by: byKernel}, true
	}
	return tcpEnding{}, false
}

// unaccepted: a connection that was still in the listener's queue. Whoever has
// a descriptor for it sets both bits of sk_shutdown by closing it; only the
// listener's own end (inet_csk_listen_stop) takes it away without.
func (c *tcpConn) unaccepted() bool {
	return c.direction == tcpAccept && !c.flags.has(tcpAccepted|tcpHeld|tcpPre) && c.closeErr == 0 && c.closeShut != 3
}

// judgeAbort: the program ended the connection with an RST, because it asked
// for one (SO_LINGER 0, or connect(AF_UNSPEC)) or because it closed with unread
// data. The kernel's reason says which. Without it three facts do: only
// connect(AF_UNSPEC) leaves sk_shutdown alone; unread data has been received;
// and tcp_disconnect, which an abort takes, clears the socket's counters before
// it is freed.
func (j *tcpJudge) judgeAbort(c *tcpConn) tcpEnding {
	abort := tcpEnding{verdict: verdictLocalAbort, by: byLocal}
	unread := tcpEnding{verdict: verdictLocalUnreadData, by: byLocal}
	reason := uint16(0)
	if j.reasons && c.flags.has(tcpResetSent) {
		reason = c.resetReason
	}
	switch {
	case c.closeShut != 3, c.rx == 0:
		return abort
	case reason == rstAbortOnClose:
		return unread
	case reason != 0, c.disconnect == format.DisconnectYes:
		return abort
	case c.disconnect == format.DisconnectNo:
		return unread
	}
	abort.note = "reason unknown: SO_LINGER 0 or unread data"
	return abort
}

// judgeVanished: the kernel freed the socket, and how it became CLOSE was lost.
func judgeVanished(c *tcpConn) tcpEnding {
	switch {
	case c.exit == format.TCPFinWait1 && c.exitShut == 3:
		return tcpEnding{verdict: verdictLocalClose, by: byLocal}
	case c.exit == format.TCPCloseWait && c.state == format.TCPLastAck && !c.flags.has(tcpResetSeen):
		return tcpEnding{verdict: verdictPeerFin, by: byPeer}
	case c.exit == format.TCPCloseWait && c.flags.has(tcpResetSeen):
		return tcpEnding{verdict: verdictPeerResetAfterFin, by: byPeer}
	case c.flags.has(tcpResetSeen) && c.resetInWhat == format.TCPEstablished:
		return tcpEnding{verdict: verdictPeerReset, by: byPeer}
	}
	return tcpEnding{verdict: verdictUnknown, note: "its end was not seen"}
}

// judgeOpen: nothing says that it ended.
func (j *tcpJudge) judgeOpen(c *tcpConn) tcpEnding {
	switch {
	case c.exit == format.TCPFinWait1 && c.exitShut == 3:
		return tcpEnding{verdict: verdictLocalClose, by: byLocal}
	case c.state == format.TCPLastAck:
		return tcpEnding{verdict: verdictPeerFin, by: byPeer}
	case c.state == 0:
		return tcpEnding{verdict: verdictUnknown, note: "only a call on it was seen"}
	case !c.flags.has(tcpSnapEnd) && j.losses.overlap(c.last, max(j.end, c.last)):
		return tcpEnding{verdict: verdictUnknown, note: "events were lost after it was last seen"}
	}
	e := tcpEnding{verdict: verdictStillOpen}
	switch c.exit {
	case format.TCPFinWait1:
		e.by = byLocal
	case format.TCPCloseWait:
		e.by = byPeer
	}
	return e
}
