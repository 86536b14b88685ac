package analyze

// A tcpEndpoint is where a listener waits.
type tcpEndpoint struct {
	netns uint64
	port  uint16
}

// direct finds out what only listeners can tell, once all of them are known.
//
// Who began a connection that is older than the recording: a local port on
// which the same network namespace listens is that of an accepted connection,
// because the kernel hands it to no socket that connects. Nothing else is
// certain, least of all which port number is higher.
//
// And who owns a connection that nobody accepted: the process that listened,
// where there was but one.
func (t *tcpTracker) direct(names tcpNames) {
	listening := make(map[tcpEndpoint]*tcpConn)
	t.all(func(c *tcpConn) {
		if !c.flags.has(tcpListener) || c.lport == 0 {
			return
		}
		at := tcpEndpoint{c.netns, c.lport}
		if other, ok := listening[at]; ok && (other == nil || names.Task(other.owner).Pid != names.Task(c.owner).Pid) {
			c = nil // several: SO_REUSEPORT, or one after the other
		}
		listening[at] = c
	})
	if len(listening) == 0 {
		return
	}
	t.all(func(c *tcpConn) {
		if !c.reported() {
			return
		}
		listener, ok := listening[tcpEndpoint{c.netns, c.lport}]
		if ok && c.direction == tcpUnknown {
			c.direction = tcpAccept
		}
		if listener != nil && c.direction == tcpAccept {
			c.own(listener.owner, ownerListener)
		}
	})
}
