package analyze

import (
	"fmt"

	"github.com/tcap-dev/tcap/format"
)

// clients names the peer of a descriptor: the connection that a process accepted
// on it last.
type clients struct {
	r    *format.Reader
	held map[clientKey]uint64
	peer map[uint64]clientPeer // by connection
}

type clientKey struct {
	pid uint32
	fd  int64
}

type clientPeer struct {
	addr format.StringID
	port uint16
}

func newClients(r *format.Reader) *clients {
	return &clients{r: r, held: map[clientKey]uint64{}, peer: map[uint64]clientPeer{}}
}

func (c *clients) event(e *format.Event) {
	id := e.V[format.TCPConn]
	switch e.Kind {
	case format.KindTCPAccept:
		c.held[clientKey{c.r.Task(e.Task).Pid, int64(e.V[format.AcceptFd])}] = id
	case format.KindTCPEndpoints:
		if p := sat16(e.V[format.EndpointsRport]); p != 0 {
			c.peer[id] = clientPeer{format.StringID(e.V[format.EndpointsRaddr]), p}
		}
	}
}

// name is the peer's address and port, or the descriptor where no accept was seen.
func (c *clients) name(pid uint32, fd int64) string {
	if id, ok := c.held[clientKey{pid, fd}]; ok {
		if p, ok := c.peer[id]; ok {
			return hostPort(plainAddr(c.r.String(p.addr)), p.port)
		}
	}
	return fmt.Sprintf("fd %d", fd)
}
