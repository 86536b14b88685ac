package analyze

import (
	"time"

	"github.com/tcap-dev/tcap/format"
)

// A closeRow is a connection that has ended, with who ended it; its JSON form is
// a contract (docs/json.md).
type closeRow struct {
	tcpRow
	EndedNs       int64    `json:"ended_ns"`
	Initiator     string   `json:"initiator"`
	Reason        string   `json:"reason"`
	Function      *string  `json:"function"`
	Functions     []string `json:"functions"`
	AppToKernelNs *int64   `json:"app_to_kernel_ns"`
	PeerToAppNs   *int64   `json:"peer_to_app_ns"`
	IdleNs        *int64   `json:"idle_ns"`
}

const (
	byApplication = "application"
	byPeerName    = "peer"
	byKernelName  = "kernel"
	byNobodyKnown = "unknown"
)

var closeInitiators = [...]string{byApplication, byPeerName, byKernelName, byNobodyKnown}

const (
	reasonClose       = "app_close"
	reasonKeepalive   = "keepalive_timeout"
	reasonIdle        = "idle_timeout"
	reasonHalfClose   = "half_close"
	reasonAbort       = "abort"
	reasonUnread      = "unread_data"
	reasonExit        = "process_exit"
	reasonExec        = "process_exec"
	reasonCrash       = "process_killed"
	reasonUnaccepted  = "never_accepted"
	reasonPeerFin     = "peer_fin"
	reasonPeerReset   = "peer_reset"
	reasonResetAfter  = "peer_reset_after_fin"
	reasonTimeout     = "timeout"
	reasonKilled      = "killed"
	reasonNotRecorded = "unknown"
)

var closeReasons = [...]string{
	reasonClose, reasonKeepalive, reasonIdle, reasonHalfClose, reasonAbort, reasonUnread, reasonExit, reasonExec, reasonCrash,
	reasonUnaccepted, reasonPeerFin, reasonPeerReset, reasonResetAfter, reasonTimeout, reasonKilled, reasonNotRecorded,
}

func newCloseRow(v *tcpView, c *tcpConn, calls []closeCall, functions []string, idle time.Duration) closeRow {
	row := closeRow{tcpRow: v.row(c), Functions: []string{}}
	row.EndedNs = c.ended() - v.start
	row.Initiator, row.Reason = closeReason(v.judge.ending(c), c, idle)
	if c.idle > 0 && c.exited != 0 {
		ns := c.idle &^ 1 // 1 is less than a tick
		row.IdleNs = &ns
	}
	row.application(c, calls, functions)
	return row
}

// ended is when the connection left ESTABLISHED, or whatever is known of its end.
func (c *tcpConn) ended() int64 {
	switch {
	case c.exited != 0:
		return c.exited
	case c.closed != 0:
		return c.closed
	}
	return c.last
}

// application tells of the call by which this side was closed, first or second.
func (row *closeRow) application(c *tcpConn, calls []closeCall, functions []string) {
	if c.closer == 0 {
		return
	}
	if c.exit == format.TCPCloseWait && c.exited != 0 && c.acted >= c.exited {
		row.PeerToAppNs = took(c.exited, c.acted)
	}
	if c.act == format.ProcessKill {
		return // it called nothing
	}
	row.Functions = append(row.Functions, functions...)
	if c.act != format.ProcessOther {
		row.Functions = append(row.Functions, processAct(c.act))
	}
	if len(row.Functions) > 0 {
		row.Function = &row.Functions[0]
	}
	switch {
	case len(calls) > 0:
		row.AppToKernelNs = took(calls[0].entry, c.acted)
	case c.sinceCall != 0:
		ns := int64(c.sinceCall)
		row.AppToKernelNs = &ns
	}
}

// processAct names what a task did, as the recorder names it.
func processAct(act uint8) string {
	names := format.Kinds[format.KindTCPState].Fields[format.StateProcess].Enum
	if int(act) >= len(names) {
		return unknownKind
	}
	return names[act]
}

// closeReason says who brought the end about, and why.
func closeReason(e tcpEnding, c *tcpConn, idle time.Duration) (initiator, reason string) {
	switch e.verdict {
	case verdictPeerFin:
		return byPeerName, reasonPeerFin
	case verdictPeerReset:
		return byPeerName, reasonPeerReset
	case verdictPeerResetAfterFin:
		return byPeerName, reasonResetAfter
	case verdictTimeout:
		return byKernelName, reasonTimeout
	case verdictKilled:
		return byKernelName, reasonKilled
	case verdictNeverAccepted:
		return byApplication, reasonUnaccepted
	case verdictLocalClose, verdictLocalShutdown, verdictLocalAbort, verdictLocalUnreadData:
		return localReason(e.verdict, c, idle)
	}
	switch e.by {
	case byLocal:
		return byApplication, reasonNotRecorded
	case byPeer:
		return byPeerName, reasonNotRecorded
	case byKernel:
		return byKernelName, reasonNotRecorded
	}
	return byNobodyKnown, reasonNotRecorded
}

// localReason: this side ended it first. A process that a signal killed called
// nothing: the kernel closed for it.
func localReason(v tcpVerdict, c *tcpConn, idle time.Duration) (initiator, reason string) {
	switch c.act {
	case format.ProcessKill:
		return byKernelName, reasonCrash
	case format.ProcessExit:
		return byApplication, reasonExit
	case format.ProcessExec:
		return byApplication, reasonExec
	}
	switch v {
	case verdictLocalAbort:
		return byApplication, reasonAbort
	case verdictLocalUnreadData:
		return byApplication, reasonUnread
	}
	switch {
	case c.idle >= int64(idle) && c.tx > 0 && c.rx > 0:
		return byApplication, reasonKeepalive
	case c.idle >= int64(idle):
		return byApplication, reasonIdle
	case v == verdictLocalShutdown:
		return byApplication, reasonHalfClose
	}
	return byApplication, reasonClose
}
