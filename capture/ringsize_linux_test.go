package capture

import (
	"os"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/format"
)

// What TCP needs grows with the CPUs that can open connections, also where the functions
// that close them are told of; all else has
// the ring of the heap; and what the user says is rounded up, no more.
func TestRingSize(t *testing.T) {
	page := os.Getpagesize()
	closes := Probe{BuiltIn: true, Role: format.RoleClose, Decl: &declare.Probe{Caller: true}}
	closesBy := Probe{BuiltIn: true, Role: format.RoleClose, Decl: &declare.Probe{Stack: true}}
	own := Probe{Role: format.RoleClose, Decl: &declare.Probe{}}
	for _, c := range []struct {
		name string
		r    recorder
		want int
		poll time.Duration
	}{
		{"TCP alone", recorder{opts: Options{Packs: []string{"tcp"}}}, 0, pollEvery},
		{"TCP with kernel stacks", recorder{opts: Options{Packs: []string{"tcp"}, KernelStacks: true}}, DefaultRingSize, pollEvery},
		{"declared probes", recorder{opts: Options{Packs: []string{"tcp"}, Probes: []Probe{closes, {}}}}, DefaultRingSize, pollEvery},
		{"who closes", recorder{opts: Options{Packs: []string{"tcp"}, Probes: []Probe{closes}}}, 0, pollEvery},
		{"who closes, as somebody says", recorder{opts: Options{Packs: []string{"tcp"}, Probes: []Probe{own}}}, DefaultRingSize, pollEvery},
		{"stacks of who closes", recorder{opts: Options{Packs: []string{"tcp"}, Probes: []Probe{closesBy}}}, DefaultRingSize, pollEvery},
		{"the heap", recorder{opts: Options{Packs: []string{"heap"}, Pids: []int{1}}}, DefaultRingSize, pollEvery},
		{"as said", recorder{opts: Options{Packs: []string{"heap"}, RingSize: 5 << 20}}, 8 << 20, pollEvery / 8},
		{"larger than usual", recorder{opts: Options{Packs: []string{"heap"}, RingSize: 512 << 20}}, 512 << 20, pollEvery},
		{"least", recorder{opts: Options{Packs: []string{"heap"}, RingSize: 1}}, page, time.Millisecond},
	} {
		c.r.sizeRing()
		got := c.r.opts.RingSize
		if c.want == 0 && (got < ConnectionsRingSize || got > DefaultRingSize) {
			t.Errorf("%s: a ring of %d bytes, want %d to %d", c.name, got, ConnectionsRingSize, DefaultRingSize)
		}
		if c.want != 0 && got != c.want {
			t.Errorf("%s: a ring of %d bytes, want %d", c.name, got, c.want)
		}
		if got&(got-1) != 0 || c.r.poll != c.poll {
			t.Errorf("%s: a ring of %d bytes is emptied every %v, want %v", c.name, got, c.r.poll, c.poll)
		}
	}
}
