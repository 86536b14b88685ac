package analyze

import (
	"net/netip"

	"github.com/tcap-dev/tcap/format"
)

// A tcpPort is a port of a network namespace.
type tcpPort struct {
	netns uint64
	port  uint16
}

// A tcpEndpoint is where a listener waits.
type tcpEndpoint struct {
	tcpPort
	family uint8
	addr   format.StringID // 0: any
}

// A tcpTuple names a connection of one network namespace from one of its ends.
type tcpTuple struct {
	netns        uint64
	laddr, raddr format.StringID
	lport, rport uint16
}

func (c *tcpConn) port() tcpPort { return tcpPort{c.netns, c.lport} }

// direct finds out what takes more than a connection's own events, once all
// are known: who began those that are older than the recording, as far as it
// is certain, and who owns those that nobody accepted.
func (t *tcpTracker) direct(names tcpNames) {
	ports, listeners := t.listening(names)
	if len(ports) == 0 {
		return
	}
	accepted := make(map[tcpTuple]bool) // of those just found, as seen from the peer
	unknown := false
	t.all(func(c *tcpConn) {
		if !c.reported() {
			return
		}
		switch {
		case c.direction != tcpUnknown:
		case ports[c.port()]: // the kernel hands the port to no socket that connects
			c.direction = tcpAccept
			accepted[tcpTuple{c.netns, c.raddr, c.laddr, c.rport, c.lport}] = true
		default:
			unknown = true
		}
		if c.direction == tcpAccept {
			if l := c.listener(listeners); l != nil {
				c.own(l.owner, ownerListener)
			}
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

// listener is whose child a connection is, as the kernel looks: who listens at the very
// address comes before who listens at any, and IPv4 before the IPv6 that takes IPv4 as
// well. nil when it was not seen, or when several processes listen there (SO_REUSEPORT).
func (c *tcpConn) listener(listeners map[tcpEndpoint]*tcpConn) *tcpConn {
	for _, at := range []tcpEndpoint{{c.port(), c.family, c.laddr}, {c.port(), c.family, 0}, {c.port(), format.FamilyIPv6, 0}} {
		if l, ok := listeners[at]; ok {
			return l
		}
	}
	return nil
}

// listening returns the ports on which a network namespace listens, because there
// is a listener or a connection was accepted, and the listeners by where they are: nil
// for those of several processes.
func (t *tcpTracker) listening(names tcpNames) (map[tcpPort]bool, map[tcpEndpoint]*tcpConn) {
	ports, listeners := make(map[tcpPort]bool), make(map[tcpEndpoint]*tcpConn)
	t.all(func(c *tcpConn) {
		switch {
		case c.lport == 0:
		case c.flags.has(tcpListener):
			ports[c.port()] = true
			at := tcpEndpoint{c.port(), c.family, c.laddr}
			if a, err := netip.ParseAddr(names.String(c.laddr)); err == nil && a.Unmap().IsUnspecified() {
				at.addr = 0
			}
			if other, ok := listeners[at]; ok && (other == nil || names.Task(other.owner).Pid != names.Task(c.owner).Pid) {
				c = nil
			}
			listeners[at] = c
		case c.direction == tcpAccept && c.reported():
			ports[c.port()] = true
		}
	})
	return ports, listeners
}
