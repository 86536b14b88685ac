package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

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
		check := func(t *testing.T, a *Attacher) {
			c := newCounter(t)
			if !a.FollowsFork() {
				t.Fatal("the fallback is in use")
			}
			bystander := start(t, exe, "fork")
			p := family(t, a, exe, tt.scenario)
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
		}
		t.Run(tt.scenario, func(t *testing.T) { check(t, newAttacher(t, openTracefs(t))) })
		if !keepsEvents() {
			continue
		}
		// What kernels before 6.12 need, every kernel can do.
		t.Run(tt.scenario+" exchanged", func(t *testing.T) {
			a := newAttacher(t, openTracefs(t))
			a.exchanged = true
			check(t, a)
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

// TestFreesCountOnce calls every free-like function of real allocators: each
// call must be seen once, although some of the functions call each other.
// Those that do so now and then say so, and may be seen twice.
func TestFreesCountOnce(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "testdata/frees.c", "-ldl")
	for _, pattern := range []string{"libjemalloc.so.2", "libmimalloc.so.2", "libtcmalloc_minimal.so.4"} {
		t.Run(pattern, func(t *testing.T) {
			libs, err := filepath.Glob("/usr/lib/*/" + pattern)
			if err != nil || len(libs) == 0 {
				kerneltest.Skip(t, pattern+" is not installed")
			}
			t.Setenv("LD_PRELOAD", libs[0])
			p := start(t, exe)
			found, err := FindAllocators(p.pid)
			if err != nil {
				t.Fatal(err)
			}
			c := newCounter(t)
			a := newAttacher(t, openTracefs(t))
			const once, perhaps = 1, 2
			var specs []Spec
			for _, o := range found {
				for _, f := range o.Functions {
					if f.HasReturn() {
						continue
					}
					cookie := uint64(once)
					if f.Forwards {
						cookie = perhaps
					}
					specs = append(specs, Spec{f.Entry, c.prog, cookie})
				}
			}
			if list, err := a.AttachAll(specs); err != nil || len(list) != len(specs) {
				t.Fatalf("%d of %d attached: %v", len(list), len(specs), err)
			}
			if err := a.AddTarget(p.pid); err != nil {
				t.Fatal(err)
			}
			want := p.finish(t)[p.pid]
			got, again := c.counts(t, once)[p.pid], c.counts(t, perhaps)[p.pid]
			if got > want || got+again < want {
				t.Errorf("%d frees seen, and %d perhaps; the program called %d", got, again, want)
			}
			if want < 30 {
				t.Errorf("the program found only %d to call", want)
			}
		})
	}
}

// TestSharedEvent puts two functions on one event, which is what happens when
// program and cookie are the same.
func TestSharedEvent(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "testdata/family.c")
	entry, ret := hitPoints(t, exe)
	bad := entry
	bad.Offset = 1 << 40
	c, other := newCounter(t), newCounter(t)
	a := newAttacher(t, openTracefs(t))
	second := entry
	second.Path = kerneltest.Build(t, "testdata/family.c", "-static")
	point, _ := hitPoints(t, second.Path)
	second.Offset = point.Offset
	list, err := a.AttachAll([]Spec{
		{entry, c.prog, 7}, {bad, c.prog, 7}, {second, c.prog, 7}, {entry, c.prog, 8}, {ret, c.prog, 9}, {entry, other.prog, 7},
	})
	if err == nil {
		t.Error("an offset outside the file was accepted")
	}
	if len(list) != 5 || list[2] != list[0] || list[2].Cookie() != 7 {
		t.Fatalf("attached %d, want 5 with the fourth a repetition of the first", len(list))
	}
	// The bad place takes its event apart; the next attacher has none.
	if n := len(definitions(t, a.group)); n != 4 || len(a.events) != 4 {
		t.Errorf("%d definitions in %d events, want 4 in 4", n, len(a.events))
	}
	clean := newAttacher(t, openTracefs(t))
	if _, err := clean.AttachAll([]Spec{{entry, c.prog, 1}, {second, c.prog, 1}}); err != nil {
		t.Error(err)
	}
	if n := len(definitions(t, clean.group)); n != 2 || len(clean.events) != 1 {
		t.Errorf("%d definitions in %d events, want 2 in 1", n, len(clean.events))
	}
	p, q := start(t, exe, "fork"), start(t, second.Path, "fork")
	for _, pid := range []int{p.pid, q.pid} {
		if err := clean.AddTarget(pid); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range []int{p.pid, q.pid, p.pid} {
		if err := a.AddTarget(pid); err != nil {
			t.Fatal(err)
		}
	}
	want := p.finish(t)
	if got := c.counts(t, 9); !equal(got, want) {
		t.Errorf("return: got %v, want %v", got, want)
	}
	if got := other.counts(t, 7); !equal(got, want) {
		t.Errorf("second program: got %v, want %v", got, want)
	}
	for pid, n := range q.finish(t) {
		want[pid] = n
	}
	if got := c.counts(t, 7); !equal(got, want) {
		t.Errorf("events of one place: got %v, want %v", got, want)
	}
	if got := c.counts(t, 1); !equal(got, want) {
		t.Errorf("shared event: got %v, want %v", got, want)
	}
}

func TestDetach(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "testdata/family.c")
	entry, ret := hitPoints(t, exe)
	kept, gone := newCounter(t), newCounter(t)
	a := newAttacher(t, openTracefs(t))
	attach(t, a, entry, kept, 1)
	attach(t, a, ret, gone, 1)
	p := start(t, exe, "fork")
	if err := a.AddTarget(p.pid); err != nil {
		t.Fatal(err)
	}
	if err := a.Detach(gone.prog); err != nil {
		t.Fatal(err)
	}
	want := p.finish(t)
	if got := gone.counts(t, 1); len(got) != 0 {
		t.Errorf("the detached program ran: %v", got)
	}
	if got := kept.counts(t, 1); !equal(got, want) {
		t.Errorf("the other one: got %v, want %v", got, want)
	}
	if n := len(a.Attachments()); n != 1 {
		t.Errorf("%d attachments, want 1", n)
	}
}

// TestRecordersDoNotMix traces two processes that run the same code, each by
// an Attacher of its own.
func TestRecordersDoNotMix(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "testdata/family.c")
	entry, _ := hitPoints(t, exe)
	var counters [2]*counter
	var programs [2]*program
	for i := range programs {
		a := newAttacher(t, openTracefs(t))
		counters[i], programs[i] = newCounter(t), family(t, a, exe, "nested")
		attach(t, a, entry, counters[i], 1)
		if err := a.AddTarget(programs[i].pid); err != nil {
			t.Fatal(err)
		}
	}
	for i := range programs {
		want := programs[i].finish(t)
		if got := counters[i].counts(t, 1); !equal(got, want) {
			t.Errorf("recorder %d: got %v, want %v", i, got, want)
		}
	}
}

func TestAddTargetErrors(t *testing.T) {
	kerneltest.Require(t)
	a := newAttacher(t, openTracefs(t))
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if err := a.AddTarget(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that has ended: %v, want ErrNotExist", err)
	}
	if _, err := a.Attach(Point{Path: "/nonexistent"}, newCounter(t).prog, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v, want ErrNotExist", err)
	}
}

// TestFallback probes through the perf PMU, as happens without tracefs.
func TestFallback(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "testdata/family.c")
	entry, ret := hitPoints(t, exe)
	c := newCounter(t)
	a := newAttacher(t, nil)
	if a.FollowsFork() {
		t.Error("the fallback claims to follow forks")
	}
	attach(t, a, entry, c, entryCookie)
	bystander := start(t, exe, "plain")
	p := start(t, exe, "thread")
	if err := a.AddTarget(p.pid); err != nil {
		t.Fatal(err)
	}
	attach(t, a, ret, c, returnCookie)
	want := map[int]uint64{p.pid: p.finish(t)[p.pid]}
	bystander.finish(t)
	for _, cookie := range []uint64{entryCookie, returnCookie} {
		if got := c.counts(t, cookie); !equal(got, want) {
			t.Errorf("cookie %x: got %v, want %v", cookie, got, want)
		}
	}
}

// envRecorder makes the test binary a recorder of the process that it names,
// to be killed.
const envRecorder = "TCAP_TEST_RECORDER"

// TestKilledRecorder kills a recorder with SIGKILL: its traps must go with it,
// and its definition with the next recorder.
func TestKilledRecorder(t *testing.T) {
	kerneltest.Require(t)
	if target := os.Getenv(envRecorder); target != "" {
		recordUntilKilled(t, target)
		return
	}
	exe := kerneltest.Build(t, "testdata/family.c")
	entry, _ := hitPoints(t, exe)
	p := start(t, exe, "endless")
	before := codeOf(t, p.pid, entry)

	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledRecorder$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%d:%s", envRecorder, p.pid, entry.Offset, exe))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "attached" {
		t.Fatalf("the recorder printed %q", lines.Text())
	}
	if codeOf(t, p.pid, entry) == before {
		t.Error("the recorder set no breakpoint")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	// exit_files has run when wait returns, but the last reference to a perf
	// event may be dropped by a worker.
	deadline := time.Now().Add(5 * time.Second)
	for codeOf(t, p.pid, entry) != before {
		if time.Now().After(deadline) {
			t.Fatal("the breakpoint is still there 5 s after the recorder died")
		}
		runtime.Gosched()
	}
	left := fmt.Sprintf("%s_%d_", groupPrefix, cmd.Process.Pid)
	if len(definitions(t, left)) == 0 {
		t.Error("the dead recorder left no definition, so the rest of this test proves nothing")
	}
	newAttacher(t, openTracefs(t))
	if found := definitions(t, left); len(found) != 0 {
		t.Errorf("the next recorder did not remove %q", found)
	}
}

func recordUntilKilled(t *testing.T, target string) {
	var pid int
	var offset uint64
	var exe string
	if _, err := fmt.Sscanf(target, "%d:%d:%s", &pid, &offset, &exe); err != nil {
		t.Fatal(err)
	}
	a := newAttacher(t, openTracefs(t))
	attach(t, a, Point{Path: exe, Offset: offset}, newCounter(t), 1)
	if err := a.AddTarget(pid); err != nil {
		t.Fatal(err)
	}
	fmt.Println("attached")
	select {}
}

// codeOf reads the probed byte in the memory of a process.
func codeOf(t *testing.T, pid int, p Point) byte {
	t.Helper()
	maps, err := readMaps(pid)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(procPath(pid, "mem"))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for _, m := range maps {
		if m.Exec && m.Path == p.Path && p.Offset >= m.Offset && p.Offset-m.Offset < m.End-m.Start {
			var b [1]byte
			if _, err := mem.ReadAt(b[:], int64(m.Start+p.Offset-m.Offset)); err != nil {
				t.Fatal(err)
			}
			return b[0]
		}
	}
	t.Fatalf("process %d does not map %s", pid, p.Path)
	return 0
}
