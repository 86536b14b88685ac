package tcp

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/format"
)

// scaled divides a size for machines that are slow.
func scaled(n int) int {
	if s, err := strconv.Atoi(os.Getenv("TCAP_TEST_SCALE")); err == nil && s > 1 {
		return n / s
	}
	return n
}

// Thousands of short connections use each other's addresses again, in every
// sense, and stay apart.
func TestManyShort(t *testing.T) {
	n := scaled(10000)
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	r := record(t, srv.pid, cli.pid)
	srv.do("socket 0 2 1 0")
	port := srv.do("listen 0 127.0.0.1 0 128")
	srv.begin("serve_many 0 %d 64", n)
	r.during(cli, "dial_many 0 127.0.0.1 %d %d 64", port, n)
	srv.result()
	srv.do("close 0")
	r.until("the end of all", func() bool { return left(t, r.objs.Connections) == 0 })

	// On a machine that stands still for a second a SYN and ACK goes again. Two
	// answers to it can make two children, of which one is given up at once.
	conns := slices.DeleteFunc(r.conns(), func(c *conn) bool { return c.transitions() == "3>7" })
	if len(conns) != 2*n {
		t.Errorf("%d connections, want %d", len(conns), 2*n)
	}
	for _, c := range conns {
		d := c.of(format.KindTCPDestroy)
		if len(d) != 1 || d[0].V[format.DestroyTx] != 64 || d[0].V[format.DestroyRx] != 64 {
			t.Fatalf("one has another's events:\n%s", r.dump(c))
		}
		want, owner := "7>2! 2>1 1>4! 4>5 5>7", len(c.of(format.KindTCPConnect))
		if c.lport == uint64(port) {
			want, owner = "3>1 1>8 8>9! 9>7", len(c.of(format.KindTCPAccept))
		}
		if got := c.transitions(); got != want || owner != 1 {
			t.Fatalf("states %q, want %q:\n%s", got, want, r.dump(c))
		}
	}
	if got := r.lost(); got != 0 {
		t.Errorf("%d records were lost", got)
	}
	for name, m := range map[string]int{"accepted": left(t, r.objs.Accepted), "connects": left(t, r.objs.Connects)} {
		if m != 0 {
			t.Errorf("%d entries are left in %s", m, name)
		}
	}
	t.Logf("%d connections of two ends: %.1f records and %.0f bytes of the ring each end, %.1f bytes a record",
		n, float64(r.records)/float64(2*n), float64(r.bytes)/float64(2*n), float64(r.bytes)/float64(r.records))
}

// More connections at once than the tables of others hold, and each is told at
// the end, with nothing lost.
func TestManyOpen(t *testing.T) {
	n := scaled(12000)
	srv := cast(t, "srv", stage{fresh: true})
	cli := cast(t, "cli", stage{with: srv})
	srv.sysctl("core.somaxconn", "4096")
	r := record(t, srv.pid, cli.pid)
	srv.do("socket 0 2 1 0")
	port := srv.do("listen 0 127.0.0.1 0 4096")
	srv.begin("accept_many 0 %d", n)
	r.during(cli, "hold_many 0 127.0.0.1 %d %d", port, n)
	srv.result()
	r.drain()
	if got := left(t, r.objs.Connections); got != 2*n+1 {
		t.Errorf("%d sockets are known, want %d and the listener", got, 2*n)
	}
	told := len(r.events)
	r.snapshot(format.SnapshotEnd)
	held := map[uint64]bool{}
	for _, e := range r.events[told:] {
		if e.Kind == format.KindTCPSnapshot && e.V[format.SnapshotState] == format.TCPEstablished {
			held[e.V[format.TCPConn]] = true
		}
	}
	if len(held) != 2*n {
		t.Errorf("%d connections are open at the end, want %d", len(held), 2*n)
	}
	cli.end()
	srv.end()
	// Thousands of FINs at once are more than loopback's queue takes (net.core.
	// netdev_max_backlog), and so they are each time that their timers run out together.
	r.within(4*patience, "the end of all", func() bool { return left(t, r.objs.Connections) == 0 })
	if got := r.lost(); got != 0 {
		t.Errorf("%d records were lost", got)
	}
}

// The price of a connection on loopback, both ends: without a recording, and
// with one of the machine.
func BenchmarkConnection(b *testing.B) {
	for _, recorded := range []bool{false, true, false, true} {
		b.Run(fmt.Sprintf("recorded=%v", recorded), func(b *testing.B) {
			srv, cli := cast(b, "srv", stage{}), cast(b, "cli", stage{})
			srv.do("socket 0 2 1 0")
			port := srv.do("listen 0 127.0.0.1 0 128")
			srv.begin("serve_many 0 %d 64", b.N)
			if !recorded {
				b.ResetTimer()
				cli.do("dial_many 0 127.0.0.1 %d %d 64", port, b.N)
				b.StopTimer()
				srv.result()
				return
			}
			r := record(b)
			b.ResetTimer()
			r.during(cli, "dial_many 0 127.0.0.1 %d %d 64", port, b.N)
			b.StopTimer()
			srv.result()
			b.ReportMetric(float64(r.records)/float64(b.N), "records/op")
			b.ReportMetric(float64(r.lost()), "lost")
		})
	}
}

// BenchmarkPrograms counts the time inside the programs, for a connection on
// loopback with both ends. The kernel's clock readings are in it.
func BenchmarkPrograms(b *testing.B) {
	for _, mode := range []string{"machine", "targets", "others"} {
		b.Run(mode, func(b *testing.B) {
			srv, cli := cast(b, "srv", stage{}), cast(b, "cli", stage{})
			pids := map[string][]int{"targets": {srv.pid, cli.pid}, "others": {os.Getpid()}}
			r := record(b, pids[mode]...)
			srv.do("socket 0 2 1 0")
			port := srv.do("listen 0 127.0.0.1 0 128")
			srv.begin("serve_many 0 %d 64", b.N)
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			r.during(cli, "dial_many 0 127.0.0.1 %d %d 64", port, b.N)
			b.StopTimer()
			srv.result()
			stats.Close()
			var spent time.Duration
			var runs uint64
			for _, p := range []*ebpf.Program{
				r.objs.TcpChanged, r.objs.TcpChangedAgain, r.objs.TcpDestroyed, r.objs.TcpResetSent, r.objs.TcpResetReceived,
				r.objs.TcpRetransmitted, r.objs.EnterConnect, r.objs.ExitConnect, r.objs.ExitAccept, r.objs.ExitAccept4,
			} {
				s, err := p.Stats()
				if err != nil {
					b.Fatal(err)
				}
				spent += s.Runtime
				runs += s.RunCount
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "bpf-ns/op")
			b.ReportMetric(float64(runs)/float64(b.N), "runs/op")
			b.ReportMetric(0, "ns/op")
		})
	}
}
