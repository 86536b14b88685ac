package tcp

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// connects returns the connect calls to a port.
func (r *recording) connects(rport int) []format.Event {
	var es []format.Event
	for _, e := range r.events {
		if e.Kind == format.KindTCPConnect && e.V[format.ConnectRport] == uint64(rport) {
			es = append(es, e)
		}
	}
	return es
}

// to returns the connections to a port, in the order of their births.
func (r *recording) to(rport int) []*conn {
	var list []*conn
	for _, c := range r.conns() {
		if c.rport == uint64(rport) {
			list = append(list, c)
		}
	}
	return list
}

// A port on which nobody listens: bound, so that none else takes it.
func closedPort(a *actor) int {
	a.t.Helper()
	a.do("socket 9 2 1 0")
	port := a.do("listen 9 127.0.0.1 0 1")
	a.do("close 9")
	return port
}

func TestRefused(t *testing.T) {
	cli := cast(t, "cli", stage{})
	r := record(t, cli.pid)
	port := closedPort(cli)
	cli.do("socket 1 2 1 0")
	cli.fails(syscall.ECONNREFUSED, "connect 1 127.0.0.1 %d", port)
	cli.fails(syscall.ECONNREFUSED, "connect 1 127.0.0.1 %d", port) // a socket may try again
	cli.do("close 1")
	r.until("the end", func() bool { return len(r.to(port)) == 2 && len(r.to(port)[1].of(format.KindTCPDestroy)) == 1 })
	for _, c := range r.to(port) {
		if got := c.transitions(); got != "7>2! 2>7/111" {
			t.Errorf("states %q", got)
		}
		if c.lport == 0 {
			t.Error("the local port is unknown")
		}
		calls := c.of(format.KindTCPConnect)
		if len(calls) != 1 || calls[0].V[format.ConnectErrno] != uint64(syscall.ECONNREFUSED) {
			t.Errorf("connect calls:\n%s", r.dump(c))
		}
		if len(c.of(format.KindTCPReset)) != 1 {
			t.Errorf("no reset:\n%s", r.dump(c))
		}
	}
	if r.to(port)[0].id == r.to(port)[1].id {
		t.Error("two connections of one socket have the same id")
	}
}

// tcptracer-bpf#21: maps that filled with what never connected.
func TestManyRefusals(t *testing.T) {
	cli := cast(t, "cli", stage{})
	r := record(t, cli.pid)
	port := closedPort(cli)
	const n = 1200
	if refused := cli.do("dial_many 0 127.0.0.1 %d %d 0", port, n); refused != n {
		t.Fatalf("%d of %d were refused", refused, n)
	}
	r.until("the end of all", func() bool { return left(t, r.objs.Connections) == 0 })
	if got := len(r.to(port)); got != n {
		t.Errorf("%d connections, want %d", got, n)
	}
	if left(t, r.objs.Connects) != 0 || r.lost() != 0 {
		t.Errorf("%d connects are left, %d records were lost", left(t, r.objs.Connects), r.lost())
	}
}

// A connect that fails before the socket has sent anything is no connection.
func TestUnreachable(t *testing.T) {
	cli := cast(t, "cli", stage{fresh: true})
	r := record(t, cli.pid)
	cli.do("socket 1 2 1 0")
	cli.fails(syscall.ENETUNREACH, "connect 1 192.0.2.1 80")
	r.drain()
	calls := r.connects(80)
	if len(calls) != 1 {
		t.Fatalf("%d connect calls:\n%s", len(calls), r.dump(nil))
	}
	e := calls[0]
	if e.V[format.TCPConn] != 0 || e.V[format.ConnectErrno] != uint64(syscall.ENETUNREACH) ||
		r.strings[e.V[format.ConnectRaddr]] != "192.0.2.1" || e.V[format.ConnectNetns] != cli.netns() || r.tasks[e.Task].comm != "cli" {
		t.Errorf("connect call:\n%s", r.dump(nil))
	}
	// It does not become part of the connection that the socket makes later.
	cli.do("socket 0 2 1 0")
	port := cli.do("listen 0 127.0.0.1 0 1")
	cli.do("connect 1 127.0.0.1 %d", port)
	cli.fails(syscall.EISCONN, "connect 1 127.0.0.1 %d", port)
	cli.do("disconnect 1")
	cli.fails(syscall.ENETUNREACH, "connect 1 192.0.2.1 81")
	r.drain()
	if len(r.to(port)) != 1 || len(r.to(port)[0].of(format.KindTCPConnect)) != 2 {
		t.Errorf("want one connection with two calls:\n%s", r.dump(nil))
	}
	if late := r.connects(81); len(late) != 1 || late[0].V[format.TCPConn] != 0 {
		t.Errorf("the last call belongs to the connection before it:\n%s", r.dump(nil))
	}
}

// One socket, several connections.
func TestReconnect(t *testing.T) {
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := record(t)
	srv.do("socket 0 2 1 0")
	port := srv.do("listen 0 127.0.0.1 0 8")
	cli.do("socket 1 2 1 0")
	for i := range 3 {
		cli.do("connect 1 127.0.0.1 %d", port)
		srv.do("accept 1 0")
		cli.do("send 1 %d", 10*(i+1))
		srv.do("recv 1 %d", 10*(i+1))
		cli.do("disconnect 1")
		srv.do("close 1")
	}
	cli.do("close 1")
	r.until("the end", func() bool { return len(r.to(port)) == 3 && len(r.to(port)[2].of(format.KindTCPDestroy)) == 1 })
	ids := map[uint64]bool{}
	for i, c := range r.to(port) {
		ids[c.id] = true
		states := c.of(format.KindTCPState)
		if got := c.transitions(); got != "7>2! 2>1 1>7!" || states[2].V[format.StateTx] != uint64(10*(i+1)) {
			t.Errorf("connection %d: %s", i, r.dump(c))
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d ids", len(ids))
	}
}

// IPv4 through IPv6 sockets is IPv4.
func TestMapped(t *testing.T) {
	for _, tt := range []struct{ name, listen, dial string }{
		{"server", "::", "127.0.0.1"},
		{"client", "127.0.0.1", "::ffff:127.0.0.1"},
		{"both", "::", "::ffff:127.0.0.1"},
		{"bound", "::ffff:127.0.0.1", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
			r := record(t, srv.pid)
			family := func(addr string) int {
				if strings.Contains(addr, ":") {
					return syscall.AF_INET6
				}
				return syscall.AF_INET
			}
			// Both ways of knowing a listener: its listen(2), and the snapshot.
			srv.do("socket 0 %d 1 0", family(tt.listen))
			port := srv.do("listen 0 %s 0 8", tt.listen)
			for _, known := range []string{"listen", "snapshot"} {
				if known == "snapshot" {
					if err := r.objs.Targets.Delete(uint32(srv.pid)); err != nil {
						t.Fatal(err)
					}
					r = record(t, srv.pid)
				}
				cli.do("socket 1 %d 1 0", family(tt.dial))
				cport := cli.do("connect 1 %s %d", tt.dial, port)
				r.until("the connection", func() bool { return r.conn(port, cport) != nil })
				srv.do("accept 1 0")
				cli.do("close 1")
				srv.do("recv 1 -1")
				srv.do("close 1")
				r.until("the end", func() bool { return r.over(port, cport) })
				c := r.conn(port, cport)
				if c.family != format.FamilyIPv4 || c.laddr != "127.0.0.1" || c.raddr != "127.0.0.1" {
					t.Errorf("%s > %s, family %d", c.laddr, c.raddr, c.family)
				}
				if got := c.transitions(); got != "3>1 1>8 8>9! 9>7" {
					t.Errorf("states %q", got)
				}
				if len(r.to(port)) != 0 {
					t.Error("the client is no target, yet its side was recorded")
				}
			}
		})
	}
}

// Fast open hands a connection out before the handshake ends.
func TestFastOpen(t *testing.T) {
	for _, size := range []int{0, 500} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			srv := cast(t, "srv", stage{fresh: true})
			srv.sysctl("ipv4.tcp_fastopen", fmt.Sprint(0x1|0x2|0x4|0x200|0x400)) // both sides, without a cookie
			cli := cast(t, "cli", stage{with: srv})
			r := record(t, srv.pid, cli.pid)
			srv.do("socket 0 2 1 0")
			port := srv.do("listen 0 127.0.0.1 0 8")
			cli.do("socket 1 2 1 0")
			cport := cli.do("fast_open 1 127.0.0.1 %d %d", port, size)
			srv.do("accept 1 0")
			srv.do("recv 1 %d", size)
			srv.do("send 1 300")
			srv.do("close 1")
			cli.do("recv 1 -1")
			cli.do("close 1")
			r.until("the end", func() bool { return r.over(cport, port) && r.over(port, cport) })
			p := &play{recording: r, srv: srv, cli: cli}
			p.check(cli, r.conn(cport, port), side{states: "7>2! 2>1 1>8 8>9! 9>7", tx: uint64(size), rx: 300})
			p.check(srv, r.conn(port, cport), side{states: "3>1 1>4! 4>5 5>7|3>4! 4>5 5>7", tx: 300, rx: uint64(size)})
			accepts := r.conn(port, cport).of(format.KindTCPAccept)
			if len(accepts) != 1 || r.tasks[accepts[0].Task].comm != "srv" {
				t.Errorf("accepts:\n%s", r.dump(r.conn(port, cport)))
			}
			if left(t, r.objs.Accepted) != 0 {
				t.Error("an early accept is left")
			}
		})
	}
}

// The same addresses and ports in two network namespaces.
func TestSameTuple(t *testing.T) {
	r := record(t)
	type pair struct {
		srv, cli *actor
		cport    int
	}
	var pairs []pair
	for i := range 2 {
		srv := cast(t, fmt.Sprint("srv", i), stage{fresh: true})
		cli := cast(t, fmt.Sprint("cli", i), stage{with: srv})
		srv.do("socket 0 2 1 0")
		srv.do("listen 0 127.0.0.1 7777 8")
		cli.do("socket 1 2 1 0")
		cli.do("bind 1 127.0.0.1 50000")
		pairs = append(pairs, pair{srv, cli, cli.do("connect 1 127.0.0.1 7777")})
		srv.do("accept 1 0")
	}
	for i, p := range pairs {
		p.cli.do("send 1 %d", 100+i)
		p.cli.do("close 1")
		p.srv.do("recv 1 -1")
		p.srv.do("close 1")
	}
	r.until("the end", func() bool {
		n := 0
		for _, c := range r.conns() {
			if (c.lport == 7777 || c.rport == 7777) && len(c.of(format.KindTCPDestroy)) == 1 {
				n++
			}
		}
		return n == 4
	})
	for i, p := range pairs {
		n := 0
		for _, c := range r.conns() {
			if c.netns != p.srv.netns() {
				continue
			}
			n++
			d := c.of(format.KindTCPDestroy)[0]
			a, moved := p.cli, d.V[format.DestroyTx]
			if c.lport == 7777 {
				a, moved = p.srv, d.V[format.DestroyRx]
			}
			for _, e := range c.of(format.KindTCPState) {
				if e.Task != 0 && int(r.tasks[e.Task].pid) != a.pid {
					t.Errorf("%s did what %s did", r.tasks[e.Task].comm, a.name)
				}
			}
			if moved != uint64(100+i) {
				t.Errorf("%s: %d bytes, want %d", a.name, moved, 100+i)
			}
		}
		if n != 2 {
			t.Errorf("%d connections in namespace %d, want 2", n, i)
		}
	}
}

// Sockets that are no TCP connections are none.
func TestIgnored(t *testing.T) {
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := record(t, srv.pid, cli.pid)
	srv.do("socket 2 2 2 0") // UDP
	srv.do("bind 2 127.0.0.1 0")
	cli.do("socket 2 2 2 0")
	cli.do("connect 2 127.0.0.1 9")
	cli.do("close 2")
	cli.do("socket 3 2 1 0")
	cli.do("disconnect 3") // without a connection
	cli.do("close 3")
	r.drain()
	if len(r.events) != 0 {
		t.Errorf("recorded:\n%s", r.dump(nil))
	}
}

// A listener is told of with where it is and whose, and is told from a connection.
func TestListener(t *testing.T) {
	srv := cast(t, "srv", stage{})
	srv.do("socket 0 2 1 0")
	before := srv.do("listen 0 127.0.0.1 0 8")
	r := record(t, srv.pid)
	srv.do("socket 1 2 1 0")
	during := srv.do("listen 1 127.0.0.1 0 8")
	r.snapshot(format.SnapshotEnd)
	srv.do("close 0")
	srv.do("close 1")
	r.until("the end", func() bool { return left(t, r.objs.Connections) == 0 })
	for port, want := range map[int]string{before: "10>7!", during: "7>10! 10>7!"} {
		n := 0
		for _, c := range r.sockets() {
			if c.lport != uint64(port) {
				continue
			}
			n++
			if got := c.transitions(); got != want || !c.listens() || c.laddr != "127.0.0.1" || c.rport != 0 {
				t.Errorf("%s:%d > %d: states %q, want %q", c.laddr, c.lport, c.rport, got, want)
			}
			for _, e := range append(c.of(format.KindTCPState), c.of(format.KindTCPSnapshot)...) {
				if int(r.tasks[e.Task].pid) != srv.pid {
					t.Errorf("%+v did it", r.tasks[e.Task])
				}
			}
			if len(c.of(format.KindTCPSnapshot)) == 0 || len(c.of(format.KindTCPDestroy)) != 1 {
				t.Errorf("the listener:\n%s", r.dump(c))
			}
		}
		if n != 1 {
			t.Errorf("port %d: %d sockets:\n%s", port, n, r.dump(nil))
		}
	}
	if left(t, r.objs.Listeners) != 0 || left(t, r.objs.Listening) != 0 {
		t.Error("where it listened is still remembered")
	}
}

// Of MPTCP, the TCP connections below it are recorded.
func TestMultipath(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/mptcp/enabled"); err != nil {
		kerneltest.Skip(t, "this kernel has no MPTCP")
	}
	srv := cast(t, "srv", stage{fresh: true})
	cli := cast(t, "cli", stage{with: srv})
	r := record(t)
	const mptcp = 262
	srv.do("socket 0 2 1 %d", mptcp)
	port := srv.do("listen 0 127.0.0.1 0 8")
	cli.do("socket 1 2 1 %d", mptcp)
	cport := cli.do("connect 1 127.0.0.1 %d", port)
	srv.do("accept 1 0")
	cli.do("send 1 1000")
	srv.do("recv 1 1000")
	cli.do("close 1")
	srv.do("close 1")
	r.until("the end of the subflow", func() bool { return r.over(cport, port) && r.over(port, cport) })
	n := 0
	for _, c := range r.conns() {
		if c.netns == srv.netns() {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d connections, want the two ends of one subflow:\n%s", n, r.dump(nil))
	}
	if tx := r.conn(cport, port).of(format.KindTCPDestroy)[0].V[format.DestroyTx]; tx != 1000 {
		t.Errorf("the subflow sent %d bytes, want 1000", tx)
	}
	if calls := r.connects(port); len(calls) != 0 {
		t.Errorf("an MPTCP socket is none of TCP:\n%s", r.dump(nil))
	}
}
