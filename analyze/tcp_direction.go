package analyze

import "github.com/tcap-dev/tcap/format"

// A tcpEndpoint is where a listener waits.
type tcpEndpoint struct {
	netns uint64
	port  uint16
}

// A tcpTuple names a connection of one network namespace from one of its ends.
type tcpTuple struct {
	netns        uint64
	laddr, raddr format.StringID
	lport, rport uint16
}

func (c *tcpConn) listensAt() tcpEndpoint { return tcpEndpoint{c.netns, c.lport} }

// direct finds out what takes more than a connection's own events, once all
// are known: who began those that are older than the recording, as far as it
// is certain, and who owns those that nobody accepted.
func (t *tcpTracker) direct(names tcpNames) {
	ports := t.listening(names)
	if len(ports) == 0 {
		return
	}
	accepted := make(map[tcpTuple]bool) // of those just found, as seen from the peer
	unknown := false
	t.all(func(c *tcpConn) {
		if !c.reported() {
			return
		}
		listener, ok := ports[c.listensAt()]
		switch {
		case c.direction != tcpUnknown:
		case ok: // the kernel hands the port to no socket that connects
			c.direction = tcpAccept
			accepted[tcpTuple{c.netns, c.raddr, c.laddr, c.rport, c.lport}] = true
		default:
			unknown = true
		}
		if listener != nil && c.direction == tcpAccept {
			c.own(listener.owner, ownerListener)
		}
	})
	if !unknown || len(accepted) == 0 {
		return
	}
	t.all(func(c *tcpConn) { // the other ends of those
		if c.direction == tcpUnknown && c.reported() && accepted[tcpTuple{c.netns, c.laddr, c.raddr, c.lport, c.rport}] {
			c.direction = tcpConnect
		}
	})
}

// listening returns the ports on which a network namespace listens: there is a
// listener, or a connection was accepted. The value is the listener; nil when it
// was not seen, or when several processes listen (SO_REUSEPORT).
func (t *tcpTracker) listening(names tcpNames) map[tcpEndpoint]*tcpConn {
	ports := make(map[tcpEndpoint]*tcpConn)
	t.all(func(c *tcpConn) {
		if !c.flags.has(tcpListener) || c.lport == 0 {
			return
		}
		at := c.listensAt()
		if other, ok := ports[at]; ok && (other == nil || names.Task(other.owner).Pid != names.Task(c.owner).Pid) {
			c = nil
		}
		ports[at] = c
	})
	t.all(func(c *tcpConn) {
		if c.direction != tcpAccept || c.lport == 0 || !c.reported() {
			return
		}
		if _, ok := ports[c.listensAt()]; !ok {
			ports[c.listensAt()] = nil
		}
	})
	return ports
}
