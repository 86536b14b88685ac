package tcp

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// A play has a server and a client, and one connection between them: socket 1
// of each. The server listens on its socket 0.
type play struct {
	*recording
	srv, cli     *actor
	sport, cport int
	addr         string // the server's
	from         string // the client's; "" is the same
}

func (p *play) client() string {
	if p.from != "" {
		return p.from
	}
	return p.addr
}

// target is the server's address as the client writes it, with its own zone.
func (p *play) target() string {
	if _, zone, ok := strings.Cut(p.from, "%"); ok {
		return bare(p.addr) + "%" + zone
	}
	return p.addr
}

// bare is an address without its zone.
func bare(addr string) string { return strings.Split(addr, "%")[0] }

// connect makes the connection, and accepts it.
func (p *play) connect() {
	p.t.Helper()
	p.listen()
	p.cport = p.cli.do("connect 1 %s %d", p.target(), p.sport)
	p.srv.do("accept 1 0")
}

func (p *play) listen() {
	p.t.Helper()
	family := syscall.AF_INET
	if strings.Contains(p.addr, ":") {
		family = syscall.AF_INET6
	}
	p.srv.do("socket 0 %d 1 0", family)
	p.sport = p.srv.do("listen 0 %s 0 16", p.addr)
	p.cli.do("socket 1 %d 1 0", family)
}

// talk has payload go both ways, and be read.
func (p *play) talk() {
	p.t.Helper()
	p.cli.do("send 1 %d", talkUp)
	p.srv.do("recv 1 %d", talkUp)
	p.srv.do("send 1 %d", talkDown)
	p.cli.do("recv 1 %d", talkDown)
}

const talkUp, talkDown = 1, 100000

// conn returns the one connection with these ports, or nil.
func (r *recording) conn(lport, rport int) *conn {
	for _, c := range r.conns() {
		if c.lport == uint64(lport) && c.rport == uint64(rport) {
			return c
		}
	}
	return nil
}

// side is what a test expects of one side of a connection.
type side struct {
	states string // as conn.transitions, a regular expression
	tx, rx uint64 // payload
	resets string // "sent" and "received", in order, a regular expression
	closer string // comm of the task in the events with !; "" is the actor's own
	abort  bool   // by tcp_disconnect
}

// check compares one side of a connection with what is expected.
func (p *play) check(a *actor, c *conn, want side) {
	p.t.Helper()
	if c == nil {
		p.t.Fatalf("no connection of %s was recorded:\n%s", a.name, p.dump(nil))
	}
	fail := func(format string, args ...any) {
		p.t.Helper()
		p.t.Errorf("%s: %s; recorded:\n%s", a.name, fmt.Sprintf(format, args...), p.dump(c))
	}
	if got := c.transitions(); !regexp.MustCompile("^(?:" + want.states + ")$").MatchString(got) {
		fail("states %q, want %q", got, want.states)
	}
	var resets []string
	for _, e := range c.of(format.KindTCPReset) {
		resets = append(resets, format.Kinds[e.Kind].Fields[format.ResetDirection].Enum[e.V[format.ResetDirection]])
	}
	if got := strings.Join(resets, " "); !regexp.MustCompile("^(?:" + want.resets + ")$").MatchString(got) {
		fail("resets %q, want %q", got, want.resets)
	}
	closer := want.closer
	if closer == "" {
		closer = a.name
	}
	for _, e := range c.of(format.KindTCPState) {
		t := p.tasks[e.Task]
		opens := e.V[format.StateNew] == format.TCPSynSent
		switch {
		case e.V[format.StateProcess] == 0 && e.Task != 0:
			fail("a packet's change names the task %s", t.comm)
		case opens && (t.comm != a.name || int(t.pid) != a.pid):
			fail("opened by %+v", t)
		case e.V[format.StateProcess] != 0 && !opens && t.comm != closer:
			fail("closed by %+v, want %s", t, closer)
		case e.V[format.StateProcess] != 0 && !opens && want.closer == "" && int(t.pid) != a.pid:
			fail("closed by %+v, want pid %d", t, a.pid)
		case e.V[format.StateNew] == format.TCPClose && (e.V[format.StateTx] != want.tx || e.V[format.StateRx] != want.rx):
			fail("at CLOSE tx %d, rx %d; want %d, %d", e.V[format.StateTx], e.V[format.StateRx], want.tx, want.rx)
		}
	}
	last := c.of(format.KindTCPDestroy)
	if len(last) != 1 {
		fail("%d ends of the socket", len(last))
		return
	}
	d, abort := last[0], uint64(format.DisconnectNo)
	if want.abort {
		abort = format.DisconnectYes
	}
	if d.V[format.DestroyTx] != want.tx || d.V[format.DestroyRx] != want.rx {
		fail("at the end tx %d, rx %d; want %d, %d", d.V[format.DestroyTx], d.V[format.DestroyRx], want.tx, want.rx)
	}
	if d.V[format.DestroyDisconnected] != abort {
		fail("disconnected %d, want %d", d.V[format.DestroyDisconnected], abort)
	}
}

// over reports whether the socket of the connection is gone.
func (r *recording) over(lport, rport int) bool {
	c := r.conn(lport, rport)
	return c != nil && len(c.of(format.KindTCPDestroy)) > 0
}

const active, passive = "7>2! 2>1 ", "3>1 "

var closes = []struct {
	name     string
	act      func(p *play)
	cli, srv side
}{
	{"client closes first", func(p *play) {
		p.connect()
		p.talk()
		p.cli.do("close 1")
		p.srv.do("recv 1 -1")
		p.srv.do("close 1")
	}, side{states: active + "1>4! 4>5 5>7", tx: talkUp, rx: talkDown},
		side{states: passive + "1>8 8>9! 9>7", tx: talkDown, rx: talkUp}},
	{"server closes first", func(p *play) {
		p.connect()
		p.talk()
		p.srv.do("close 1")
		p.cli.do("recv 1 -1")
		p.cli.do("close 1")
	}, side{states: active + "1>8 8>9! 9>7", tx: talkUp, rx: talkDown},
		side{states: passive + "1>4! 4>5 5>7", tx: talkDown, rx: talkUp}},
	{"half-close", func(p *play) {
		p.connect()
		p.cli.do("send 1 1000")
		p.cli.do("shutdown 1 1")
		p.srv.do("recv 1 -1")
		p.srv.do("send 1 5000")
		p.srv.do("close 1")
		p.cli.do("recv 1 -1")
		p.cli.do("close 1")
	}, side{states: active + "1>4! 4>5 5>7", tx: 1000, rx: 5000},
		side{states: passive + "1>8 8>9! 9>7", tx: 5000, rx: 1000}},
	{"half-close by the server", func(p *play) {
		p.connect()
		p.srv.do("send 1 1000")
		p.srv.do("shutdown 1 1")
		p.cli.do("recv 1 -1")
		p.cli.do("send 1 5000")
		p.cli.do("close 1")
		p.srv.do("recv 1 -1")
		p.srv.do("close 1")
	}, side{states: active + "1>8 8>9! 9>7", tx: 5000, rx: 1000},
		side{states: passive + "1>4! 4>5 5>7", tx: 1000, rx: 5000}},
	{"unread data", func(p *play) {
		p.connect()
		p.srv.do("send 1 100")
		p.cli.do("arrived 1")
		p.cli.do("close 1")
		p.srv.fails(syscall.ECONNRESET, "recv 1 1")
		p.srv.do("close 1")
	}, side{states: active + "1>7!", rx: 100, resets: "sent"},
		side{states: passive + "1>7/104", tx: 100, resets: "received"}},
	{"linger abort", func(p *play) {
		p.connect()
		p.talk()
		p.srv.do("linger 1 0")
		p.srv.do("close 1")
		p.cli.fails(syscall.ECONNRESET, "recv 1 1")
		p.cli.do("close 1")
	}, side{states: active + "1>7/104", tx: talkUp, rx: talkDown, resets: "received"},
		side{states: passive + "1>7!", tx: talkDown, rx: talkUp, resets: "sent", abort: true}},
	{"reset after FIN", func(p *play) {
		p.connect()
		p.talk()
		p.cli.do("close 1")
		p.srv.do("arrived 1")
		p.srv.do("send 1 10")
		p.srv.do("recv 1 -1") // the end, or the reset: both are fine
		p.srv.do("close 1")
	}, side{states: active + "1>4! 4>5 5>7", tx: talkUp, rx: talkDown},
		side{states: passive + "1>8 8>7/32", tx: talkDown + 10, rx: talkUp, resets: "received"}},
	{"killed by ss", func(p *play) {
		p.connect()
		p.talk()
		p.ssKill()
		p.srv.fails(syscall.ECONNRESET, "recv 1 1")
		p.srv.do("close 1")
		p.cli.do("close 1")
	}, side{states: active + "1>7/103!", tx: talkUp, rx: talkDown, resets: "sent", closer: "ss"},
		side{states: passive + "1>7/104", tx: talkDown, rx: talkUp, resets: "received"}},
	{"never accepted", func(p *play) {
		p.listen()
		p.cport = p.cli.do("connect 1 %s %d", p.target(), p.sport)
		p.srv.do("close 0")
		p.cli.fails(syscall.ECONNRESET, "recv 1 1")
		p.cli.do("close 1")
	}, side{states: active + "1>7/104", resets: "received"},
		side{states: passive + "1>7!", resets: "sent", abort: true}},
	{"never accepted, client gone", func(p *play) {
		p.listen()
		p.cport = p.cli.do("connect 1 %s %d", p.target(), p.sport)
		p.cli.do("send 1 7")
		p.cli.do("close 1")
		p.until("the FIN", func() bool {
			c := p.conn(p.sport, p.cport)
			return c != nil && strings.Contains(c.transitions(), "1>8")
		})
		p.srv.do("close 0")
		// The child's acknowledgement of the FIN may be delayed, and come with the reset.
	}, side{states: active + "1>4! (4>5 5>7|4>7/104)", tx: 7, resets: "(received)?"},
		side{states: passive + "1>8 8>7!", rx: 7, resets: "sent", abort: true}},
	{"last close by a child", func(p *play) {
		p.connect()
		p.talk()
		p.srv.do("fork_close 1 wrk")
		p.cli.do("recv 1 -1")
		p.cli.do("close 1")
	}, side{states: active + "1>8 8>9! 9>7", tx: talkUp, rx: talkDown},
		side{states: passive + "1>4! 4>5 5>7", tx: talkDown, rx: talkUp, closer: "wrk"}},
	{"disconnect", func(p *play) {
		p.connect()
		p.talk()
		p.cli.do("disconnect 1")
		p.srv.fails(syscall.ECONNRESET, "recv 1 1")
		p.srv.do("close 1")
		p.cli.do("close 1")
	}, side{states: active + "1>7!", tx: talkUp, rx: talkDown, resets: "sent", abort: true},
		side{states: passive + "1>7/104", tx: talkDown, rx: talkUp, resets: "received"}},
	{"shutdown of both directions", func(p *play) {
		p.connect()
		p.talk()
		p.cli.do("shutdown 1 2")
		p.srv.do("recv 1 -1")
		p.srv.do("close 1")
		p.cli.do("close 1")
	}, side{states: active + "1>4! 4>5 5>7", tx: talkUp, rx: talkDown},
		side{states: passive + "1>8 8>9! 9>7", tx: talkDown, rx: talkUp}},
}

// ssKill destroys the client's socket from outside, as an administrator would.
func (p *play) ssKill() {
	p.t.Helper()
	p.cli.run("ss -K -tn sport = %d dport = %d", p.cport, p.sport)
}

// perform plays every way to close, and compares what was recorded.
func (p *play) perform(t *testing.T, name string) {
	for _, tt := range closes {
		t.Run(name+"/"+tt.name, func(t *testing.T) {
			p.t, p.srv.t, p.cli.t = t, t, t
			tt.act(p)
			p.until("the end of both sockets", func() bool {
				return p.over(p.sport, p.cport) && p.over(p.cport, p.sport)
			})
			p.srv.begin("close 0")
			p.srv.result()
			p.check(p.cli, p.conn(p.cport, p.sport), tt.cli)
			p.check(p.srv, p.conn(p.sport, p.cport), tt.srv)
			p.checkOwners()
		})
		p.events = p.events[:0]
	}
	p.t, p.srv.t, p.cli.t = t, t, t
}

func TestClose(t *testing.T) {
	for _, mode := range []string{"machine", "targets"} {
		srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
		var pids []int
		if mode == "targets" {
			pids = []int{srv.pid, cli.pid}
		}
		r := record(t, pids...)
		for _, addr := range []string{"127.0.0.1", "::1"} {
			p := &play{recording: r, srv: srv, cli: cli, addr: addr}
			p.perform(t, mode+"/"+addr)
		}
		r.t = t
		if n := r.lost(); n != 0 {
			t.Errorf("%s: %d records were lost", mode, n)
		}
		for name, m := range map[string]int{"connections": left(t, r.objs.Connections), "accepted": left(t, r.objs.Accepted),
			"connects": left(t, r.objs.Connects), "listeners": left(t, r.objs.Listeners), "listening": left(t, r.objs.Listening)} {
			if mode == "targets" && m != 0 {
				t.Errorf("%d entries are left in %s", m, name)
			}
		}
	}
}

// checkOwners compares who connected and accepted, and the addresses.
func (p *play) checkOwners() {
	p.t.Helper()
	family := uint64(format.FamilyIPv4)
	if net.ParseIP(bare(p.addr)).To4() == nil {
		family = format.FamilyIPv6
	}
	c, s := p.conn(p.cport, p.sport), p.conn(p.sport, p.cport)
	for _, x := range []struct {
		c        *conn
		from, to string
		a        *actor
	}{{c, p.client(), p.addr, p.cli}, {s, p.addr, p.client(), p.srv}} {
		if x.c.laddr != bare(x.from) || x.c.raddr != bare(x.to) || x.c.family != family || x.c.netns != x.a.netns() {
			p.t.Errorf("endpoints %s > %s, family %d, netns %d; want %s > %s, %d, %d",
				x.c.laddr, x.c.raddr, x.c.family, x.c.netns, x.from, x.to, family, x.a.netns())
		}
	}
	calls := c.of(format.KindTCPConnect)
	if len(calls) != 1 {
		p.t.Fatalf("%d connect calls, want 1:\n%s", len(calls), p.dump(c))
	}
	e := calls[0]
	who := p.tasks[e.Task]
	if int(who.pid) != p.cli.pid || who.comm != p.cli.name || who.uid != uint32(os.Getuid()) {
		p.t.Errorf("connected by %+v", who)
	}
	if e.V[format.ConnectErrno] != 0 || e.V[format.ConnectRport] != uint64(p.sport) || p.strings[e.V[format.ConnectRaddr]] != bare(p.addr) ||
		e.V[format.ConnectDuration] == 0 || e.V[format.ConnectNetns] != p.cli.netns() || e.V[format.ConnectFamily] != family {
		p.t.Errorf("connect call:\n%s", p.dump(&conn{events: calls}))
	}
	for _, e := range s.of(format.KindTCPAccept) {
		if who := p.tasks[e.Task]; int(who.pid) != p.srv.pid || who.comm != p.srv.name {
			p.t.Errorf("accepted by %+v", who)
		}
	}
	if accepts := len(s.of(format.KindTCPAccept)); (accepts == 1) == strings.Contains(p.t.Name(), "never_accepted") {
		p.t.Errorf("%d accept calls", accepts)
	}
}
