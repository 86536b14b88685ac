package tcp

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// mib reads a counter of the actor's network namespace: GROUP NAME of
// /proc/net/snmp or /proc/net/netstat, where a line of names comes before one of
// values.
func (a *actor) mib(file, group, name string) uint64 {
	a.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", a.pid, file))
	if err != nil {
		a.t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if f[0] != group+":" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		i := slices.Index(names, name)
		if i < 0 {
			break
		}
		var n uint64
		if _, err := fmt.Sscan(f[i], &n); err != nil {
			a.t.Fatal(err)
		}
		return n
	}
	a.t.Fatalf("%s has no %s %s", file, group, name)
	return 0
}

const soReuseport = 15

// A connection that waits for accept when its listener closes goes to another
// listener of the port, where the kernel is told to (tcp_migrate_req), and is that
// one's: no reset, no end.
func TestMigrated(t *testing.T) {
	kerneltest.Require(t)
	if _, err := os.Stat("/proc/sys/net/ipv4/tcp_migrate_req"); err != nil {
		kerneltest.Skip(t, "this kernel migrates no connections (before Linux 5.14)")
	}
	old := cast(t, "old", stage{fresh: true})
	srv, cli := cast(t, "srv", stage{with: old}), cast(t, "cli", stage{with: old})
	old.sysctl("ipv4.tcp_migrate_req", "1")
	r := record(t, old.pid, srv.pid)
	listen := func(a *actor, port int) int {
		a.do("socket 0 2 1 0")
		a.do("option 0 %d %d 1", syscall.SOL_SOCKET, soReuseport)
		return a.do("listen 0 127.0.0.1 %d 8", port)
	}
	port := listen(old, 0)
	cli.do("socket 1 2 1 0")
	cport := cli.do("connect 1 127.0.0.1 %d", port)
	r.until("the child", func() bool { return r.conn(port, cport) != nil })
	listen(srv, port)
	old.do("close 0")
	if n := old.mib("netstat", "TcpExt", "TCPMigrateReqSuccess"); n != 1 {
		t.Fatalf("%d connections migrated, want 1", n)
	}
	srv.do("accept 1 0")
	cli.do("send 1 5")
	srv.do("recv 1 5")
	srv.do("close 1")
	cli.do("recv 1 -1")
	cli.do("close 1")
	r.until("the end", func() bool { return r.over(port, cport) })
	c := r.conn(port, cport)
	(&play{recording: r}).check(srv, c, side{states: passive + "1>4! 4>5 5>7", rx: 5})
	if acc := c.of(format.KindTCPAccept); len(acc) != 1 || int(r.tasks[acc[0].Task].pid) != srv.pid {
		t.Errorf("accepts:\n%s", r.dump(c))
	}
}

// The reset of an abort comes after its CLOSE, that which a peer sent before.
func TestResetOrder(t *testing.T) {
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := record(t, srv.pid, cli.pid)
	p := &play{recording: r, srv: srv, cli: cli, addr: "127.0.0.1"}
	p.connect()
	p.talk()
	srv.do("linger 1 0")
	srv.do("close 1")
	cli.fails(syscall.ECONNRESET, "recv 1 1")
	cli.do("close 1")
	r.until("the end", func() bool { return r.over(p.sport, p.cport) && r.over(p.cport, p.sport) })
	for _, x := range []struct {
		c     *conn
		after bool
	}{{r.conn(p.sport, p.cport), true}, {r.conn(p.cport, p.sport), false}} {
		resets, states := x.c.of(format.KindTCPReset), x.c.of(format.KindTCPState)
		if len(resets) != 1 {
			t.Fatalf("%d resets:\n%s", len(resets), r.dump(x.c))
		}
		closed := states[len(states)-1]
		if closed.V[format.StateNew] != format.TCPClose || (resets[0].Time > closed.Time) != x.after {
			t.Errorf("reset at %d, CLOSE at %d, after: want %v", resets[0].Time, closed.Time, x.after)
		}
	}
}

const tcpRepair = 19

// A segment that belongs to no connection is answered by the listener, with a
// reset that is told with the listener's socket. It is none of the listener's.
func TestResetByListener(t *testing.T) {
	srv := cast(t, "srv", stage{fresh: true})
	cli := cast(t, "cli", stage{with: srv})
	r := record(t, srv.pid, cli.pid)
	srv.do("socket 0 2 1 0")
	port := srv.do("listen 0 127.0.0.1 0 8")
	cli.do("socket 1 2 1 0")
	cli.do("option 1 %d %d 1", solTCP, tcpRepair) // connected by decree: nothing is sent
	cport := cli.do("connect 1 127.0.0.1 %d", port)
	cli.do("option 1 %d %d 0", solTCP, tcpRepair) // which asks the peer for its window
	r.until("the reset", func() bool {
		c := r.conn(cport, port)
		return c != nil && strings.HasSuffix(c.transitions(), "1>7/104")
	})
	if n := srv.mib("snmp", "Tcp", "OutRsts"); n != 1 {
		t.Errorf("%d resets were sent, want 1", n)
	}
	cli.do("close 1")
	srv.do("close 0")
	r.until("the end", func() bool { return left(t, r.objs.Connections) == 0 })
	for _, c := range r.sockets() {
		for _, e := range c.of(format.KindTCPReset) {
			if e.V[format.ResetDirection] != format.ResetReceived || c.lport != uint64(cport) {
				t.Errorf("a reset of port %d:\n%s", c.lport, r.dump(c))
			}
		}
	}
}

// What was recorded and what the kernel counted is the same, over every way to
// close, refusals, and retransmissions.
func TestConservation(t *testing.T) {
	n := newNetwork(t)
	r := record(t, n.srv.pid, n.cli.pid)
	p := n.play(r)
	for _, tt := range closes {
		tt.act(p)
		r.until(tt.name, func() bool { return r.over(p.sport, p.cport) && r.over(p.cport, p.sport) })
		p.srv.begin("close 0")
		p.srv.result() // some did already
	}
	const refusals = 7
	n.srv.do("socket 9 2 1 0")
	port := n.srv.do("listen 9 %s 0 1", srvAddr)
	n.srv.do("close 9")
	if got := n.cli.do("dial_many 0 %s %d %d 0", srvAddr, port, refusals); got != refusals {
		t.Fatalf("%d of %d were refused", got, refusals)
	}
	p.connect()
	n.mute()
	p.cli.do("send 1 1000") // one segment: several that go again together are told once
	r.until("retransmissions", func() bool { return len(r.conn(p.cport, p.sport).of(format.KindTCPRetransmit)) >= 2 })
	n.unmute()
	p.srv.do("recv 1 1000")
	p.cli.do("close 1")
	p.srv.do("recv 1 -1")
	p.srv.do("close 1")
	p.srv.do("close 0")
	r.until("the end of all", func() bool { return left(t, r.objs.Connections) == 0 })

	var got struct{ active, passive, attemptFails, estabResets, resets, retransmits, told uint64 }
	for _, c := range r.conns() {
		for _, e := range c.of(format.KindTCPState) {
			from, to := e.V[format.StateOld], e.V[format.StateNew]
			switch {
			case to == format.TCPSynSent:
				got.active++
			case from == format.TCPSynRecv:
				got.passive++
			case from == format.TCPSynSent && to == format.TCPClose:
				got.attemptFails++
			case (from == format.TCPEstablished || from == format.TCPCloseWait) && to == format.TCPClose:
				got.estabResets++
			}
		}
		for _, e := range c.of(format.KindTCPReset) {
			if e.V[format.ResetDirection] == format.ResetSent {
				got.resets++
			}
		}
		for _, e := range c.of(format.KindTCPDestroy) {
			got.retransmits += e.V[format.DestroyRetransmits]
		}
		got.told += uint64(len(c.of(format.KindTCPRetransmit)))
	}
	// Resets without a connection: those of the closed port, and that of the
	// stub which is left of a connection whose peer sends on.
	const bare = refusals + 1
	for _, x := range []struct {
		name string
		got  uint64
	}{
		{"ActiveOpens", got.active}, {"PassiveOpens", got.passive}, {"AttemptFails", got.attemptFails},
		{"EstabResets", got.estabResets}, {"OutRsts", got.resets + bare}, {"RetransSegs", got.retransmits}, {"RetransSegs, told", got.told},
	} {
		name, _, _ := strings.Cut(x.name, ",")
		want := n.srv.mib("snmp", "Tcp", name) + n.cli.mib("snmp", "Tcp", name)
		least := want
		if x.name == "RetransSegs, told" { // not of a SYN and ACK: that goes again for a connection to be
			least -= min(want, n.srv.mib("netstat", "TcpExt", "TCPSynRetrans"))
		}
		if x.got > want || x.got < least || want == 0 {
			t.Errorf("%s: %d were recorded, the kernel counted %d; %d SYNs went again, %d could not be sent", x.name, x.got, want,
				n.srv.mib("netstat", "TcpExt", "TCPSynRetrans"), n.cli.mib("netstat", "TcpExt", "TCPRetransFail"))
		}
	}
	if r.lost() != 0 {
		t.Errorf("%d records were lost", r.lost())
	}
}

// lostOf is how many records of a kind found no room.
func (r *recording) lostOf(k bpf.RawKind) (n int) {
	r.t.Helper()
	for cpu := range uint32(ebpf.MustPossibleCPU()) {
		var v uint64
		if err := r.objs.Lost.Lookup(cpu*uint32(bpf.RawKindCount)+uint32(k), &v); err != nil {
			r.t.Fatal(err)
		}
		n += int(v)
	}
	return n
}

// A ring that runs over in the midst of connections: what is recorded and what is
// counted as lost is what happened, and nothing is made up.
func TestOverflow(t *testing.T) {
	n := scaled(3000)
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := recordWith(t, 64<<10, srv.pid, cli.pid)
	srv.do("socket 0 2 1 0")
	port := srv.do("listen 0 127.0.0.1 0 128")
	srv.begin("serve_many 0 %d 64", n)
	cli.begin("dial_many 0 127.0.0.1 %d %d 64", port, n/2) // nobody reads the ring meanwhile
	cli.result()
	r.during(cli, "dial_many 0 127.0.0.1 %d %d 64", port, n-n/2)
	srv.result()
	srv.do("close 0")
	r.until("the end of all", func() bool { return left(t, r.objs.Connections) == 0 })
	if r.lost() == 0 {
		t.Fatal("nothing was lost")
	}
	told := map[format.Kind]int{}
	for _, e := range r.events {
		told[e.Kind]++
	}
	for _, x := range []struct {
		kind format.Kind
		raw  bpf.RawKind
		want int
	}{
		{format.KindTCPState, bpf.RawKindTcpState, 9*n + 2}, // five of a client, four of a server, two of the listener
		{format.KindTCPDestroy, bpf.RawKindTcpDestroy, 2*n + 1},
		{format.KindTCPConnect, bpf.RawKindTcpConnect, n},
		{format.KindTCPAccept, bpf.RawKindTcpAccept, n},
	} {
		if lost := r.lostOf(x.raw); told[x.kind]+lost != x.want {
			t.Errorf("%s: %d recorded and %d lost, want %d", format.Kinds[x.kind].Name, told[x.kind], lost, x.want)
		}
	}
	truth := map[bool][]string{true: strings.Fields("3>1 1>8 8>9! 9>7"), false: strings.Fields("7>2! 2>1 1>4! 4>5 5>7")}
	for _, c := range r.conns() {
		all := truth[c.lport == uint64(port)]
		if c.lport == 0 {
			continue // lost with the addresses
		}
		i := 0
		for _, s := range strings.Fields(c.transitions()) {
			for i < len(all) && all[i] != s {
				i++
			}
			if i == len(all) {
				t.Fatalf("states %q are no part of %q", c.transitions(), all)
			}
		}
		for _, e := range c.of(format.KindTCPDestroy) {
			if e.V[format.DestroyTx] != 64 || e.V[format.DestroyRx] != 64 {
				t.Fatalf("bytes:\n%s", r.dump(c))
			}
		}
	}
}
