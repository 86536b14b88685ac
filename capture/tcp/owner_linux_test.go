package tcp

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/format"
)

// pipe returns the two ends of a UNIX socket, to pass descriptors through.
func pipe(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// A socket that another process got through SCM_RIGHTS is closed by that one;
// the accepter's own close, not being the last, is nothing.
func TestPassedOn(t *testing.T) {
	a, b := pipe(t)
	srv, wrk, cli := cast(t, "srv", stage{extra: []*os.File{a}}), cast(t, "wrk", stage{extra: []*os.File{b}}), cast(t, "cli", stage{})
	r := record(t, srv.pid)
	p := &play{recording: r, srv: srv, cli: cli, addr: "127.0.0.1"}
	p.connect()
	p.talk()
	srv.do("send_fd 1")
	wrk.do("recv_fd 1")
	srv.do("close 1")
	wrk.do("send 1 7")
	cli.do("recv 1 7")
	wrk.do("close 1")
	cli.do("recv 1 -1")
	cli.do("close 1")
	r.until("the end", func() bool { return r.over(p.sport, p.cport) })
	c := r.conn(p.sport, p.cport)
	p.check(srv, c, side{states: passive + "1>4! 4>5 5>7", tx: talkDown + 7, rx: talkUp, closer: "wrk"})
	if acc := c.of(format.KindTCPAccept); len(acc) != 1 || r.tasks[acc[0].Task].comm != "srv" {
		t.Errorf("accepts:\n%s", r.dump(c))
	}
}

// Connections of others are not recorded, nor is anything remembered of them.
func TestOthersAreNotRecorded(t *testing.T) {
	bystander := cast(t, "bystander", stage{})
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := record(t, bystander.pid)
	p := &play{recording: r, srv: srv, cli: cli, addr: "127.0.0.1"}
	p.connect()
	p.talk()
	r.snapshot(format.SnapshotEnd)
	cli.do("close 1")
	srv.do("recv 1 -1")
	srv.do("close 1")
	r.drain()
	if len(r.events) != 0 || left(t, r.objs.Connections) != 0 {
		t.Errorf("%d connections are remembered; recorded:\n%s", left(t, r.objs.Connections), r.dump(nil))
	}
}

// The client is recorded, the server's side is not: they are two sockets.
func TestOnlyOneSide(t *testing.T) {
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := record(t, cli.pid)
	p := &play{recording: r, srv: srv, cli: cli, addr: "127.0.0.1"}
	p.connect()
	srv.do("close 1")
	cli.do("recv 1 -1")
	cli.do("close 1")
	r.until("the end", func() bool { return r.over(p.cport, p.sport) })
	p.check(cli, r.conn(p.cport, p.sport), side{states: active + "1>8 8>9! 9>7"})
	if r.conn(p.sport, p.cport) != nil {
		t.Errorf("recorded:\n%s", r.dump(nil))
	}
}

// A target's child is a target, with the listener that it inherited.
func TestChildOfTarget(t *testing.T) {
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := record(t, srv.pid)
	p := &play{recording: r, srv: srv, cli: cli, addr: "127.0.0.1"}
	p.connect()
	srv.do("fork_close 1 wrk")
	cli.do("recv 1 -1")
	cli.do("close 1")
	r.until("the end", func() bool { return r.over(p.sport, p.cport) })
	p.check(srv, r.conn(p.sport, p.cport), side{states: passive + "1>4! 4>5 5>7", closer: "wrk"})
}

// A listener that was passed on is not known to be the target's: the connection
// is known from its accept on.
func TestUnknownListener(t *testing.T) {
	for _, how := range []string{"close", "snapshot"} {
		t.Run(how, func(t *testing.T) {
			a, b := pipe(t)
			old, srv, cli := cast(t, "old", stage{extra: []*os.File{a}}), cast(t, "srv", stage{extra: []*os.File{b}}), cast(t, "cli", stage{})
			r := record(t, srv.pid)
			old.do("socket 0 2 1 0")
			port := old.do("listen 0 127.0.0.1 0 8")
			old.do("send_fd 0")
			srv.do("recv_fd 0")
			cli.do("socket 1 2 1 0")
			cport := cli.do("connect 1 127.0.0.1 %d", port)
			srv.do("accept 1 0")
			r.drain()
			if len(r.events) != 0 || left(t, r.objs.Accepted) != 1 {
				t.Errorf("%d accepts wait; recorded:\n%s", left(t, r.objs.Accepted), r.dump(nil))
			}
			want := "1>4! 4>5 5>7"
			if how == "snapshot" {
				r.snapshot(format.SnapshotEnd)
			}
			srv.do("close 1")
			cli.do("recv 1 -1")
			cli.do("close 1")
			r.until("the end", func() bool { return r.over(port, cport) })
			c := r.conn(port, cport)
			if got := c.transitions(); got != want {
				t.Errorf("states %q, want %q", got, want)
			}
			if acc := c.of(format.KindTCPAccept); len(acc) != 1 || int(r.tasks[acc[0].Task].pid) != srv.pid {
				t.Errorf("accepts:\n%s", r.dump(c))
			}
			if left(t, r.objs.Accepted) != 0 {
				t.Error("the accept still waits")
			}
		})
	}
}

// Two listeners can share a port, one for IPv4 and one for IPv6 alone: each has
// children of its own, whichever of them is a target's.
func TestTwinListeners(t *testing.T) {
	const ipv6, v6only = 41, 26
	for target, known := range map[string]string{"v4": "listen", "v6": "snapshot"} {
		t.Run(target, func(t *testing.T) {
			v4 := cast(t, "v4", stage{fresh: true})
			v6, cli := cast(t, "v6", stage{with: v4}), cast(t, "cli", stage{with: v4})
			srv := map[string]*actor{"v4": v4, "v6": v6}[target]
			var r *recording
			if known == "listen" {
				r = record(t, srv.pid)
			}
			v4.do("socket 0 %d 1 0", syscall.AF_INET)
			port := v4.do("listen 0 0.0.0.0 0 8")
			v6.do("socket 0 %d 1 0", syscall.AF_INET6)
			v6.do("option 0 %d %d 1", ipv6, v6only)
			v6.do("listen 0 :: %d 8", port)
			if known == "snapshot" {
				r = record(t, srv.pid)
			}
			cports := map[string]int{}
			for name, a := range map[string]*actor{"v4": v4, "v6": v6} {
				family, addr := syscall.AF_INET, "127.0.0.1"
				if name == "v6" {
					family, addr = syscall.AF_INET6, "::1"
				}
				cli.do("socket 1 %d 1 0", family)
				cports[name] = cli.do("connect 1 %s %d", addr, port)
				a.do("accept 1 0")
				cli.do("close 1")
				a.do("recv 1 -1")
				a.do("close 1")
			}
			r.until("the target's", func() bool { return r.over(port, cports[target]) })
			r.drain()
			if n := len(r.conns()); n != 1 {
				t.Errorf("%d connections are recorded, want the target's one:\n%s", n, r.dump(nil))
			}
		})
	}
}

// Connections from before the recording are known with their owners and their
// counters, and followed to their ends.
func TestSnapshots(t *testing.T) {
	for _, mode := range []string{"machine", "targets"} {
		t.Run(mode, func(t *testing.T) {
			srv := cast(t, "srv", stage{fresh: true})
			cli := cast(t, "cli", stage{with: srv})
			p := &play{srv: srv, cli: cli, addr: "127.0.0.1", recording: &recording{t: t}}
			p.connect()
			p.talk()
			var pids []int
			if mode == "targets" {
				pids = []int{srv.pid, cli.pid}
			}
			r := record(t, pids...)
			p.recording = r
			checkSnapshot(t, p, format.SnapshotStart, talkUp, talkDown)

			srv.do("send 1 23")
			cli.do("recv 1 23")
			r.snapshot(format.SnapshotEnd)
			checkSnapshot(t, p, format.SnapshotEnd, talkUp, talkDown+23)

			cli.do("close 1")
			srv.do("recv 1 -1")
			srv.do("close 1")
			r.until("the end", func() bool { return r.over(p.sport, p.cport) && r.over(p.cport, p.sport) })
			p.check(cli, r.conn(p.cport, p.sport), side{states: "1>4! 4>5 5>7", tx: talkUp, rx: talkDown + 23})
			p.check(srv, r.conn(p.sport, p.cport), side{states: "1>8 8>9! 9>7", tx: talkDown + 23, rx: talkUp})
			// The listener is from before, too, and its children are recorded.
			cli.do("socket 2 2 1 0")
			cport := cli.do("connect 2 127.0.0.1 %d", p.sport)
			r.until("the listener's child", func() bool { return r.conn(p.sport, cport) != nil })
		})
	}
}

// checkSnapshot compares what a snapshot told of both sides; up and down are
// the bytes that the client sent and received.
func checkSnapshot(t *testing.T, p *play, when int, up, down uint64) {
	t.Helper()
	for _, x := range []struct {
		a      *actor
		c      *conn
		tx, rx uint64
	}{{p.cli, p.conn(p.cport, p.sport), up, down}, {p.srv, p.conn(p.sport, p.cport), down, up}} {
		if x.c == nil {
			t.Fatalf("nothing of %s:\n%s", x.a.name, p.dump(nil))
		}
		n := 0
		for _, e := range x.c.of(format.KindTCPSnapshot) {
			if e.V[format.SnapshotWhen] != uint64(when) {
				continue
			}
			n++
			who := p.tasks[e.Task]
			if int(who.pid) != x.a.pid || who.comm != x.a.name || e.V[format.SnapshotState] != format.TCPEstablished ||
				e.V[format.SnapshotTx] != x.tx || e.V[format.SnapshotRx] != x.rx || e.V[format.SnapshotFd] < 3 {
				t.Errorf("snapshot of %s (%+v):\n%s", x.a.name, who, p.dump(x.c))
			}
		}
		if n != 1 || x.c.netns != p.srv.netns() {
			t.Errorf("%d snapshots of %s, netns %d:\n%s", n, x.a.name, x.c.netns, p.dump(x.c))
		}
	}
}

// A recording that begins while connections come and go misses none of those
// that then are open: each was seen at its birth, or by the walk, or is known
// from its next change because the walk came between its accept and its table.
func TestBeginsAmongConnections(t *testing.T) {
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	srv.do("socket 0 2 1 0")
	port := srv.do("listen 0 127.0.0.1 0 128")
	const endless = 1 << 30
	srv.begin("serve_many 0 %d 262144", endless)
	cli.begin("dial_many 0 127.0.0.1 %d %d 262144", port, endless)
	r := record(t, srv.pid, cli.pid)
	r.until("connections", func() bool { return len(r.events) > 8000 })
	cli.kill()
	srv.kill()
	r.until("the end of all", func() bool { return left(t, r.objs.Connections) == 0 })
	older := 0
	for _, c := range r.conns() {
		if len(c.of(format.KindTCPDestroy)) != 1 || c.lport == 0 || c.rport == 0 {
			t.Fatalf("incomplete:\n%s", r.dump(c))
		}
		states := c.transitions()
		if !strings.HasPrefix(states, "7>2! 2>1") && !strings.HasPrefix(states, "3>1") {
			older++
		}
	}
	if older > 4 { // one of each side was open, and one may have been in its handshake
		t.Errorf("%d connections of %d lack their births", older, len(r.conns()))
	}
	if r.lost() != 0 {
		t.Errorf("%d records were lost", r.lost())
	}
	for name, m := range map[string]int{"accepted": left(t, r.objs.Accepted), "connects": left(t, r.objs.Connects),
		"listeners": left(t, r.objs.Listeners), "listening": left(t, r.objs.Listening)} {
		if m != 0 {
			t.Errorf("%d entries are left in %s", m, name)
		}
	}
}
