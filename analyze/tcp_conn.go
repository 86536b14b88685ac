package analyze

import "github.com/tcap-dev/tcap/format"

// tcpConn is one session of one TCP socket: what its events said, nothing
// derived. Names stay table rows until a result is rendered, so that a million
// of these are a few hundred megabytes at most.
//
// Times are CLOCK_MONOTONIC ns of the recording machine; 0 is "not seen".
type tcpConn struct {
	id    uint64 // socket cookie: unique per boot, 0 for a connect that failed before it had one
	netns uint64

	exited      int64 // the first step out of ESTABLISHED
	acted       int64 // the change that closer caused
	idle        int64 // ns without payload before exited; 1 less than a tick
	opened      int64 // the first event of its life: 7->2, 10->3, or the call that failed at once
	established int64
	closed      int64 // ->CLOSE
	first, last int64 // events of any kind
	owned       int64 // since when namer has it by fd, at the latest

	tx, rx uint64 // payload bytes

	laddr, raddr format.StringID
	owner        format.TaskID
	closer       format.TaskID // who closed or shut down the local side
	namer        format.TaskID // who has it by the descriptor fd
	ender        format.TaskID // whose system call made it CLOSE

	uid         uint32
	retransmits uint32 // the socket's own counter
	resent      uint32 // tcp.retransmit events
	srtt        uint32 // us, while data still flowed
	minRtt      uint32 // us, smallest seen; 0 is never a real value (the kernel stores at least one tick)
	fd          uint32 // namer's descriptor + 1; 0 is not known
	sinceCall   uint32 // ns from the entry of closer's call to acted
	connErrno   uint16 // connect(2) failed with this
	closeErr    uint16 // sk_err at ->CLOSE
	resetReason uint16 // enum sk_rst_reason of the RST that was sent

	lport, rport uint16
	flags        tcpFlags

	family      uint8
	direction   tcpDirection
	ownerFrom   tcpOwner
	state       uint8 // last known
	exit        uint8 // where the first step out of ESTABLISHED led: FIN_WAIT1, CLOSE_WAIT or CLOSE; 0 unseen
	exitShut    uint8 // sk_shutdown then
	closeOld    uint8 // the state left for CLOSE
	closeShut   uint8
	resetInWhat uint8 // state in which an RST came in
	act         uint8 // by what closer closed: ProcessClose, ...
	disconnect  uint8 // whether the counters were cleared before the socket was freed
}

type tcpFlags uint16

const (
	tcpHasState   tcpFlags = 1 << iota // a state change was seen
	tcpProven                          // it is a connection, not merely a socket
	tcpListener                        // a listening socket: not a session
	tcpPre                             // it was there before the recording
	tcpHeld                            // a snapshot found a task holding it
	tcpSnapEnd                         // the snapshot at the end found it
	tcpAccepted                        // accept(2) returned it
	tcpClosed                          // ->CLOSE was seen
	tcpCloseProc                       // ... and the task did it itself
	tcpDestroyed                       // the kernel freed it
	tcpCounted                         // tx and rx were read at least once
	tcpGap                             // a state change between two seen ones is missing
	tcpResetSent                       //
	tcpResetSeen                       // an RST came in
	tcpFailedCall                      // connect(2) failed without any change of state
	tcpConnected                       // connect(2) returned its final result
)

func (f tcpFlags) has(x tcpFlags) bool { return f&x != 0 }

type tcpDirection uint8

const (
	tcpUnknown tcpDirection = iota
	tcpConnect
	tcpAccept
)

var tcpDirections = []string{"unknown", "connect", "accept"}

// tcpOwner says which evidence named the owner; better evidence wins.
type tcpOwner uint8

const (
	ownerUnknown tcpOwner = iota
	ownerListener
	ownerClose
	ownerSnapshot
	ownerAccept
	ownerConnect
)

var tcpOwners = []string{"", "listener", "close", "snapshot", "accept", "connect"}

// own names the owner unless better evidence has already.
func (c *tcpConn) own(t format.TaskID, from tcpOwner) bool {
	if t == 0 || from <= c.ownerFrom {
		return false
	}
	c.owner, c.ownerFrom = t, from
	return true
}

// reported says whether the record is a connection that a report shows.
func (c *tcpConn) reported() bool { return c.flags.has(tcpProven) && !c.flags.has(tcpListener) }

// over says whether its life has ended as far as the events tell.
func (c *tcpConn) over() bool { return c.flags.has(tcpClosed | tcpDestroyed | tcpFailedCall) }

// count takes the socket's counters. They only grow within a session, and
// tcp_disconnect clears them after the change to CLOSE (net/ipv4/tcp.c), so a
// smaller value is never news.
func (c *tcpConn) count(tx, rx, retransmits, minRtt uint64) {
	c.flags |= tcpCounted
	c.tx, c.rx = max(c.tx, tx), max(c.rx, rx)
	c.retransmits = max(c.retransmits, sat32(retransmits))
	if m := sat32(minRtt); m != 0 && m != ^uint32(0) && (c.minRtt == 0 || m < c.minRtt) {
		c.minRtt = m
	}
}

// sent is how often a segment went out again: the socket's counter, or the
// events where the counter was never read.
func (c *tcpConn) sent() uint32 { return max(c.retransmits, c.resent) }

func sat32(v uint64) uint32 { return uint32(min(v, 1<<32-1)) }
func sat16(v uint64) uint16 { return uint16(min(v, 1<<16-1)) }
func sat8(v uint64) uint8   { return uint8(min(v, 1<<8-1)) }
