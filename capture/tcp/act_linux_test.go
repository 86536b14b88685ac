package tcp

import (
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// TestActs: a change of state that a task causes says by what it did so.
func TestActs(t *testing.T) {
	r := record(t)
	for _, tt := range []struct {
		name  string
		act   func(p *play)
		want  uint64
		since bool // the call's entry was seen
	}{
		{"close", func(p *play) { p.cli.do("close 1") }, format.ProcessClose, true},
		{"close_range", func(p *play) { p.cli.do("close_range 1") }, format.ProcessCloseRange, false},
		{"shutdown", func(p *play) { p.cli.do("shutdown 1 1") }, format.ProcessShutdown, true},
		{"dup2", func(p *play) { p.cli.do("socket 2 2 1 0"); p.cli.do("dup2 2 1") }, format.ProcessDup, false},
		{"disconnect", func(p *play) { p.cli.do("disconnect 1") }, format.ProcessConnect, false},
		{"exec", func(p *play) { p.cli.begin("exec 1") }, format.ProcessExec, false},
		{"exit", func(p *play) { p.cli.end() }, format.ProcessExit, false},
		{"kill", func(p *play) { p.cli.kill() }, format.ProcessKill, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
			p := &play{recording: r, srv: srv, cli: cli, addr: "127.0.0.1"}
			p.t = t
			p.connect()
			p.talk()
			tt.act(p)
			defer func() {
				if tt.want == format.ProcessExec {
					p.cli.kill() // what it has become does not read
				}
			}()
			var end *format.Event
			p.until("the end", func() bool {
				c := p.conn(p.cport, p.sport)
				if c == nil {
					return false
				}
				for _, e := range c.of(format.KindTCPState) {
					if e.V[format.StateOld] == format.TCPEstablished {
						end = &e
						return true
					}
				}
				return false
			})
			if got := end.V[format.StateProcess]; got != tt.want {
				t.Errorf("process %d, want %d", got, tt.want)
			}
			since := end.V[format.StateSinceCall]
			if (since != 0) != tt.since || since > 1e9 {
				t.Errorf("%d ns since the call, seen %v", since, tt.since)
			}
		})
	}
}

// TestIdle: the time without payload before the end, of both sides.
func TestIdle(t *testing.T) {
	srv, cli := cast(t, "srv", stage{}), cast(t, "cli", stage{})
	p := &play{recording: record(t, srv.pid, cli.pid), srv: srv, cli: cli, addr: "127.0.0.1"}
	const quiet = 300 // ms
	p.connect()
	p.talk()
	p.srv.do("pause %d", quiet)
	p.srv.do("close 1")
	p.cli.do("recv 1 -1")
	p.cli.do("close 1")
	p.until("the end of both sockets", func() bool {
		return p.over(p.sport, p.cport) && p.over(p.cport, p.sport)
	})
	for _, c := range []*conn{p.conn(p.sport, p.cport), p.conn(p.cport, p.sport)} {
		idle := c.of(format.KindTCPDestroy)[0].V[format.DestroyIdle]
		if idle < (quiet-20)*1e6 || idle > 5e9 {
			t.Errorf("idle for %d ns, want %d ms", idle, quiet)
		}
	}
}
