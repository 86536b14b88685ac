package tcp

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// A network is two network namespaces with a cable between them.
type network struct {
	srv, cli *actor
}

const (
	srvAddr, cliAddr = "10.77.0.1", "10.77.0.2"
	srvMAC, cliMAC   = "02:00:00:00:00:01", "02:00:00:00:00:02"
	nobodyMAC        = "02:00:00:00:00:99" // frames to it are dropped
	deadAddr         = "10.77.0.9"         // has that one
	absentAddr       = "10.77.0.10"        // nobody says that he has it
)

func newNetwork(t *testing.T) *network {
	n := &network{srv: cast(t, "srv", stage{fresh: true}), cli: cast(t, "cli", stage{fresh: true})}
	n.srv.ip("link add name cable address %s type veth peer name cable address %s netns %d", srvMAC, cliMAC, n.cli.pid)
	for _, x := range []struct {
		a           *actor
		addr, local string
	}{{n.srv, srvAddr, "fe80::1"}, {n.cli, cliAddr, "fe80::2"}} {
		x.a.ip("link set cable addrgenmode none")
		x.a.ip("addr add %s/24 dev cable", x.addr)
		x.a.ip("addr add %s/64 dev cable nodad", x.local)
		x.a.ip("link set cable up")
	}
	n.unmute()
	n.cli.ip("neigh add %s lladdr %s dev cable nud permanent", deadAddr, nobodyMAC)
	return n
}

// mute has everything dropped that the two say to each other.
func (n *network) mute() {
	n.srv.ip("neigh replace %s lladdr %s dev cable nud permanent", cliAddr, nobodyMAC)
	n.cli.ip("neigh replace %s lladdr %s dev cable nud permanent", srvAddr, nobodyMAC)
}

func (n *network) unmute() {
	n.srv.ip("neigh replace %s lladdr %s dev cable nud permanent", cliAddr, cliMAC)
	n.cli.ip("neigh replace %s lladdr %s dev cable nud permanent", srvAddr, srvMAC)
}

func (n *network) play(r *recording) *play {
	return &play{recording: r, srv: n.srv, cli: n.cli, addr: srvAddr, from: cliAddr}
}

func TestCloseOverNetwork(t *testing.T) {
	n := newNetwork(t)
	r := record(t, n.srv.pid, n.cli.pid)
	n.play(r).perform(t, "ipv4")
	local := &play{recording: r, srv: n.srv, cli: n.cli, addr: "fe80::1%cable", from: "fe80::2%cable"}
	local.perform(t, "link-local")
	r.t = t
	if n := r.lost(); n != 0 {
		t.Errorf("%d records were lost", n)
	}
}

// connecting waits until a SYN went to the port, and returns the connection.
func (r *recording) connecting(rport int) *conn {
	r.t.Helper()
	r.until("the SYN", func() bool { return len(r.to(rport)) > 0 && r.to(rport)[0].transitions() == "7>2!" })
	return r.to(rport)[0]
}

// checkFailed compares a connection that never came to be.
func (r *recording) checkFailed(rport int, states string, errnos ...syscall.Errno) *conn {
	r.t.Helper()
	r.until("the end", func() bool {
		return len(r.to(rport)) > 0 && len(r.to(rport)[0].of(format.KindTCPDestroy)) > 0
	})
	c := r.to(rport)[0]
	if got := c.transitions(); got != states {
		r.t.Errorf("states %q, want %q", got, states)
	}
	for _, e := range c.of(format.KindTCPState) {
		if who := r.tasks[e.Task]; e.Task != 0 && who.comm != "cli" {
			r.t.Errorf("%+v did it", who)
		}
	}
	calls := c.of(format.KindTCPConnect)
	if len(calls) != len(errnos) {
		r.t.Fatalf("%d connect calls, want %d:\n%s", len(calls), len(errnos), r.dump(c))
	}
	for i, e := range calls {
		if e.V[format.ConnectErrno] != uint64(errnos[i]) {
			r.t.Errorf("errno %d, want %d", e.V[format.ConnectErrno], errnos[i])
		}
	}
	if c.lport == 0 {
		r.t.Errorf("the local port is unknown:\n%s", r.dump(c))
	}
	return c
}

func TestConnectTimesOut(t *testing.T) {
	n := newNetwork(t)
	n.cli.sysctl("ipv4.tcp_syn_retries", "1")
	if _, err := os.Stat("/proc/sys/net/ipv4/tcp_syn_linear_timeouts"); err == nil {
		n.cli.sysctl("ipv4.tcp_syn_linear_timeouts", "0") // Linux 6.5 and later: retries that do not count
	}
	n.cli.sysctl("ipv4.neigh.cable.retrans_time_ms", "100")
	other := cast(t, "cli", stage{with: n.cli})
	r := record(t, n.cli.pid, other.pid)
	n.cli.do("socket 1 2 1 0")
	other.do("socket 1 2 1 0")
	n.cli.begin("connect 1 %s 81", deadAddr)
	other.begin("connect 1 %s 82", absentAddr)
	if _, errno := n.cli.result(); errno != int(syscall.ETIMEDOUT) {
		t.Errorf("errno %d from a dead neighbour", errno)
	}
	if _, errno := other.result(); errno != int(syscall.EHOSTUNREACH) {
		t.Errorf("errno %d from an absent neighbour", errno)
	}
	n.cli.do("close 1")
	other.do("close 1")
	c := r.checkFailed(81, "7>2! 2>7/110", syscall.ETIMEDOUT)
	if got := len(c.of(format.KindTCPRetransmit)); got != 1 {
		t.Errorf("%d retransmissions, want 1:\n%s", got, r.dump(c))
	}
	if d := c.of(format.KindTCPConnect)[0].V[format.ConnectDuration]; d < 1e9 {
		t.Errorf("connect took %d ns", d)
	}
	if d := c.of(format.KindTCPDestroy)[0]; d.V[format.DestroyRetransmits] != 1 || d.V[format.DestroyDisconnected] != format.DisconnectUnknown {
		t.Errorf("the end:\n%s", r.dump(c))
	}
	r.checkFailed(82, "7>2! 2>7/113", syscall.EHOSTUNREACH)
}

func TestConnectAbandoned(t *testing.T) {
	n := newNetwork(t)
	r := record(t, n.cli.pid)
	n.cli.do("socket 1 2 1 0")
	n.cli.do("nonblock 1")
	n.cli.fails(syscall.EINPROGRESS, "connect 1 %s 81", deadAddr)
	n.cli.fails(syscall.EALREADY, "connect 1 %s 81", deadAddr)
	n.cli.do("close 1")
	r.checkFailed(81, "7>2! 2>7!", syscall.EINPROGRESS, syscall.EALREADY)
}

func TestConnectInterrupted(t *testing.T) {
	n := newNetwork(t)
	r := record(t, n.cli.pid)
	n.cli.do("socket 1 2 1 0")
	n.cli.do("alarm 1")
	n.cli.fails(syscall.EINTR, "connect 1 %s 81", deadAddr)
	n.cli.do("close 1")
	r.checkFailed(81, "7>2! 2>7!", syscall.EINTR)
}

func TestKilledWhileConnecting(t *testing.T) {
	n := newNetwork(t)
	cli := cast(t, "cli", stage{with: n.cli})
	r := record(t, cli.pid)
	cli.do("socket 1 2 1 0")
	cli.begin("connect 1 %s 81", deadAddr)
	r.connecting(81)
	cli.kill()
	r.checkFailed(81, "7>2! 2>7!", syscall.EINTR)
	if left(t, r.objs.Connects) != 0 {
		t.Error("the call is left")
	}
}

func TestKilled(t *testing.T) {
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := record(t, srv.pid, cli.pid)
	p := &play{recording: r, srv: srv, cli: cli, addr: "127.0.0.1"}
	p.connect()
	p.talk()
	cli.kill()
	srv.do("recv 1 -1")
	srv.do("close 1")
	r.until("the end", func() bool { return r.over(p.cport, p.sport) && r.over(p.sport, p.cport) })
	p.check(cli, r.conn(p.cport, p.sport), side{states: active + "1>4! 4>5 5>7", tx: talkUp, rx: talkDown})
}

const (
	solTCP, tcpUserTimeout, tcpKeepIdle, tcpKeepInterval, tcpKeepCount = 6, 18, 4, 5, 6
)

func TestTimeouts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		act    func(p *play)
		tx     uint64
		resets string
	}{
		{"user timeout", func(p *play) {
			p.cli.do("option 1 %d %d 400", solTCP, tcpUserTimeout)
			p.cli.do("send 1 1000")
		}, talkUp + 1000, ""},
		{"keepalive", func(p *play) {
			for opt, v := range map[int]int{tcpKeepIdle: 1, tcpKeepInterval: 1, tcpKeepCount: 1} {
				p.cli.do("option 1 %d %d %d", solTCP, opt, v)
			}
			p.cli.do("option 1 %d %d 1", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		}, talkUp, "sent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t)
			r := record(t, n.srv.pid, n.cli.pid)
			p := n.play(r)
			p.connect()
			p.talk()
			n.mute()
			tt.act(p)
			r.until("the timeout", func() bool { return strings.Contains(r.conn(p.cport, p.sport).transitions(), ">7") })
			p.cli.fails(syscall.ETIMEDOUT, "recv 1 1")
			p.cli.do("close 1")
			r.until("the end", func() bool { return r.over(p.cport, p.sport) })
			c := r.conn(p.cport, p.sport)
			p.check(n.cli, c, side{states: active + "1>7/110", tx: tt.tx, rx: talkDown, resets: tt.resets})
			sent := c.of(format.KindTCPDestroy)[0].V[format.DestroyRetransmits]
			if got := uint64(len(c.of(format.KindTCPRetransmit))); got != sent || (tt.resets == "") != (got > 0) {
				t.Errorf("%d retransmissions told, %d counted:\n%s", got, sent, r.dump(c))
			}
		})
	}
}

// What is sent again counts once.
func TestRetransmission(t *testing.T) {
	n := newNetwork(t)
	r := record(t, n.srv.pid, n.cli.pid)
	p := n.play(r)
	p.connect()
	p.talk()
	n.mute()
	p.cli.do("send 1 5000")
	r.until("a retransmission", func() bool { return len(r.conn(p.cport, p.sport).of(format.KindTCPRetransmit)) >= 2 })
	n.unmute()
	p.srv.do("recv 1 5000")
	p.cli.do("close 1")
	p.srv.do("recv 1 -1")
	p.srv.do("close 1")
	r.until("the end", func() bool { return r.over(p.cport, p.sport) && r.over(p.sport, p.cport) })
	p.check(n.cli, r.conn(p.cport, p.sport), side{states: active + "1>4! 4>5 5>7", tx: talkUp + 5000, rx: talkDown})
	p.check(n.srv, r.conn(p.sport, p.cport), side{states: passive + "1>8 8>9! 9>7", tx: talkDown, rx: talkUp + 5000})
	d := r.conn(p.cport, p.sport).of(format.KindTCPDestroy)[0]
	if d.V[format.DestroyRetransmits] < 2 {
		t.Errorf("%d retransmissions counted", d.V[format.DestroyRetransmits])
	}
}

// Both close before either hears of it.
func TestSimultaneousClose(t *testing.T) {
	n := newNetwork(t)
	r := record(t, n.srv.pid, n.cli.pid)
	p := n.play(r)
	p.connect()
	p.talk()
	n.mute()
	p.cli.do("close 1")
	p.srv.do("close 1")
	n.unmute()
	r.until("the end", func() bool { return r.over(p.cport, p.sport) && r.over(p.sport, p.cport) })
	// Whose FIN is retransmitted first meets a socket in FIN_WAIT1.
	const either = "1>4! (4>11 11>7|4>5 5>7)"
	p.check(n.cli, r.conn(p.cport, p.sport), side{states: active + either, tx: talkUp, rx: talkDown})
	p.check(n.srv, r.conn(p.sport, p.cport), side{states: passive + either, tx: talkDown, rx: talkUp})
	both := fmt.Sprint(r.conn(p.cport, p.sport).transitions(), r.conn(p.sport, p.cport).transitions())
	if !strings.Contains(both, "4>11") {
		t.Errorf("no CLOSING in %q", both)
	}
}
