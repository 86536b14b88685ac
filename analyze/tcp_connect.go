package analyze

import "github.com/tcap-dev/tcap/format"

// connect takes the return of connect(2). It names the owner, and it is the
// only witness of a call that failed before a SYN went out.
func (t *tcpTracker) connect(e *format.Event) {
	v := &e.V
	id, errno := v[format.TCPConn], sat16(v[format.ConnectErrno])
	if errno == eALREADY || errno == eISCONN {
		return // a question about a connect that was told before
	}
	failed := errno != 0 && errno != eINPROGRESS && errno != eINTR
	var c *tcpConn
	switch {
	case id != 0:
		c = t.get(id, e.Time)
		if failed && c.over() && c.flags.has(tcpConnected) {
			c = t.renew(c, e.Time) // the socket tried again
		}
	case failed:
		c = t.alloc(0, e.Time)
	default:
		return // without an identity there is nothing to add it to
	}
	if c.flags.has(tcpListener) {
		return
	}
	c.connected(e, errno, failed)
}

func (c *tcpConn) connected(e *format.Event, errno uint16, failed bool) {
	if !failed && c.over() {
		return // connect(AF_UNSPEC), or a success that was reset at once: told by its states
	}
	v := &e.V
	c.direction = tcpConnect
	c.flags |= tcpProven
	c.own(e.Task, ownerConnect)
	c.uid = sat32(v[format.ConnectUid])
	if c.raddr == 0 || c.rport == 0 {
		c.raddr, c.rport = format.StringID(v[format.ConnectRaddr]), sat16(v[format.ConnectRport])
	}
	if c.family == 0 {
		c.family = sat8(v[format.ConnectFamily])
	}
	if c.netns == 0 {
		c.netns = v[format.ConnectNetns]
	}
	began := e.Time - int64(min(v[format.ConnectDuration], 1<<62))
	c.named(e.Task, v[format.ConnectFd], began)
	if !failed {
		if errno == 0 {
			c.flags |= tcpConnected
		}
		if !c.flags.has(tcpHasState) && c.opened == 0 {
			c.opened = began
			c.flags &^= tcpPre
		}
		return
	}
	c.flags |= tcpConnected
	if c.established == 0 {
		c.connErrno = errno
	}
	if !c.flags.has(tcpHasState) {
		c.opened, c.closed = began, e.Time
		c.state = format.TCPClose
		c.flags |= tcpFailedCall
	}
}
