package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

const (
	entryCookie  = 0x1122334455667788
	returnCookie = 0xfedcba9876543210
)

// TestFollowsFamily compares exact counts per process with what the processes
// themselves report, however they came into being.
func TestFollowsFamily(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "testdata/family.c")
	entry, ret := hitPoints(t, exe)
	for _, tt := range []struct {
		scenario  string
		processes int
	}{
		{"plain", 1}, {"fork", 2}, {"nested", 5}, {"many", 51}, {"vfork", 2}, {"spawn", 2}, {"thread", 7}, {"oldthreads", 9}, {"shell", 2},
	} {
		t.Run(tt.scenario, func(t *testing.T) {
			// The kernel's fault, which it lets nobody avoid before 6.12:
			// see openEvent. Only children of children are hit.
			switch tt.scenario {
			case "nested", "thread", "oldthreads", "shell":
				if !keepsEvents() {
					t.Skip("this kernel exchanges the events of parent and child")
				}
			}
			c := newCounter(t)
			a := newAttacher(t, openTracefs(t))
			if !a.FollowsFork() {
				t.Fatal("the fallback is in use")
			}
			bystander := start(t, exe, "fork")
			p := start(t, exe, tt.scenario)
			attach(t, a, entry, c, entryCookie)
			if err := a.AddTarget(p.pid); err != nil {
				t.Fatal(err)
			}
			attach(t, a, ret, c, returnCookie) // after the target
			want := p.finish(t)
			bystander.finish(t)
			if len(want) != tt.processes {
				t.Errorf("%d processes reported, want %d", len(want), tt.processes)
			}
			for name, cookie := range map[string]uint64{"entry": entryCookie, "return": returnCookie} {
				if got := c.counts(t, cookie); !equal(got, want) {
					t.Errorf("%s hits by process: got %v, want %v", name, got, want)
				}
			}
		})
	}
}

func TestOddPaths(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "testdata/family.c")
	text, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	spaced := filepath.Join(t.TempDir(), "a b:0x10 c\td")
	if err := os.WriteFile(spaced, text, 0o755); err != nil {
		t.Fatal(err)
	}
	entry, _ := hitPoints(t, spaced)
	check := func(t *testing.T, point Point, p *program) {
		t.Helper()
		c := newCounter(t)
		a := newAttacher(t, openTracefs(t))
		attach(t, a, point, c, 1)
		if err := a.AddTarget(p.pid); err != nil {
			t.Fatal(err)
		}
		if want, got := p.finish(t), c.counts(t, 1); !equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	t.Run("spaces", func(t *testing.T) {
		check(t, entry, start(t, spaced, "fork"))
	})
	t.Run("through root", func(t *testing.T) {
		p := start(t, spaced, "fork")
		point := entry
		point.Path = fmt.Sprintf("/proc/%d/root%s", p.pid, spaced)
		check(t, point, p)
	})
	t.Run("deleted", func(t *testing.T) {
		p := start(t, spaced, "fork")
		if err := os.Remove(spaced); err != nil {
			t.Fatal(err)
		}
		point := entry
		point.Path = fmt.Sprintf("/proc/%d/exe", p.pid)
		check(t, point, p)
	})
}
