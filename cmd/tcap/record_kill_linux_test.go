package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

const faults = "../../testdata/programs/faults/"

// work is what testdata/programs/faults/busy.c shares with the test.
type work struct {
	Pid, Marks, Conns uint64
	MarkNs            [60000]uint64
	Conn              [60000]struct{ OpenedNs, ClosedNs, Port uint64 }
}

// Of busy.c.
const (
	busyPairs = 50
	busyMark  = 4096
)

// mostMissing is what a killed recorder may cost.
const mostMissing = int64(time.Second)

// A recorder that is killed at any moment leaves a file that opens, in which at
// most the last second is missing, and a program that runs on unharmed.
func TestKilledRecorder(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, faults+"busy.c")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const atOnce = 8
	slots := make(chan bool, atOnce)
	var wg sync.WaitGroup
	var mu sync.Mutex
	found := map[string]int{}
	for i := range kerneltest.Repeat(50) {
		k := &kill{t: t, dir: t.TempDir(), exe: exe, attach: i%2 == 1, begun: i%8 > 1}
		k.after = kerneltest.Patience(time.Duration(random.Int64N(int64(1800 * time.Millisecond))))
		slots <- true
		wg.Go(func() {
			defer func() { <-slots }()
			if err := k.try(); err != nil {
				t.Errorf("kill %d, %v after the start (of the file: %t), attach %t: %v", i, k.after, k.begun, k.attach, err)
			}
			mu.Lock()
			found[k.found]++
			mu.Unlock()
		})
	}
	wg.Wait()
	t.Logf("files: %v", found)
	if found["events"] == 0 {
		t.Error("no file had any events")
	}
	leavesNoProbes(t)
}

// A kill is one recording that is killed.
type kill struct {
	t      *testing.T
	dir    string
	exe    string
	attach bool // to the program that runs, instead of starting it
	begun  bool // the time below runs from when the file has begun, else from tcap's start
	after  time.Duration

	told *work
	at   int64 // when it was killed, monotonic ns

	found string // "nothing", "no events" or "events"
}

func (k *kill) try() error {
	shared := filepath.Join(k.dir, "progress")
	path := filepath.Join(k.dir, "run.tcap")
	if err := k.share(shared); err != nil {
		return err
	}
	defer func() {
		if pid := k.told.Pid; pid != 0 {
			unix.Kill(int(pid), unix.SIGKILL)
		}
	}()
	args := []string{"record", "-o", path}
	if k.attach {
		busy := exec.Command(k.exe, shared)
		if err := busy.Start(); err != nil {
			return err
		}
		defer busy.Wait()
		defer busy.Process.Kill()
		if !eventually(func() bool { return k.told.marks() > 0 }) {
			return errors.New("the program does not come to work")
		}
		args = append(args, "-p", fmt.Sprint(busy.Process.Pid))
	} else {
		args = append(args, "--", k.exe, shared)
	}
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	if k.begun && !eventually(func() bool { return fileSize(path) > 0 }) {
		return errors.New("the recording does not begin")
	}
	time.Sleep(k.after) // the moment is the experiment
	k.at = monotonic()
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	cmd.Wait()
	if err := k.unharmed(); err != nil {
		return err
	}
	return k.check(path)
}

func fileSize(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// share maps the file in which the program tells how far it is.
func (k *kill) share(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(work{}))
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	k.told = (*work)(unsafe.Pointer(&mem[0]))
	k.t.Cleanup(func() { unix.Munmap(mem) })
	return nil
}

// unharmed checks that the program goes on and that no breakpoint is left in it.
func (k *kill) unharmed() error {
	if k.told.marks() == 0 {
		return nil // it had not begun, and its recorder's end is its own
	}
	before := k.told.marks()
	if !eventually(func() bool { return k.told.marks() > before+5 }) {
		return errors.New("the program stands still")
	}
	var err error
	if !eventually(func() bool { err = textIntact(int(k.told.Pid)); return err == nil }) {
		return err
	}
	return nil
}

// check holds the file against what the program says.
func (k *kill) check(path string) error {
	required := k.at - mostMissing
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Size() == 0 {
		k.found = "nothing"
		if !k.attach && k.told.marks() > 0 && int64(k.told.MarkNs[0]) < required {
			return errors.New("no file, although there was something to record")
		}
		if o := tcap(k.t, "info", path); err == nil && (o.code != exitFailed || !strings.Contains(o.stderr, "empty")) {
			return fmt.Errorf("info of an empty file: exit %d, %q", o.code, o.stderr)
		}
		return nil
	}
	r, err := format.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	seen, err := k.read(r)
	if err != nil {
		return err
	}
	k.found = "no events"
	if seen.last >= 0 {
		k.found = "events"
	}
	return errors.Join(k.checkMarks(seen, required), k.checkConns(seen, required), k.verbs(path))
}

// seen is what a capture tells of the program.
type seen struct {
	first, last int // marks; -1 when there is none
	wrong       error
	ports       map[uint64]bool
}

func (k *kill) read(r *format.Reader) (*seen, error) {
	s := &seen{first: -1, last: -1, ports: map[uint64]bool{}}
	pairs, freed := 0, 0 // since the last mark
	for e, err := range r.Events(format.Filter{}) {
		if err != nil {
			return nil, err
		}
		size := e.V[format.AllocSize]
		main := e.Task != 0 && uint64(r.Task(e.Task).Tid) == k.told.Pid
		switch {
		case e.Kind == format.KindTCPEndpoints:
			s.ports[e.V[format.EndpointsLport]] = true
		case e.Kind == format.KindFree && main:
			freed++
		case e.Kind == format.KindAlloc && main && size == 16:
			pairs++
		case e.Kind == format.KindAlloc && main && size >= busyMark && size < busyMark+uint64(len(k.told.MarkNs)):
			n := int(size - busyMark)
			switch {
			case s.last < 0:
				s.first = n
			case n != s.last+1:
				s.wrong = fmt.Errorf("mark %d after mark %d", n, s.last)
			case pairs != busyPairs || freed != busyPairs+1:
				s.wrong = fmt.Errorf("before mark %d: %d allocations and %d frees, want %d and %d", n, pairs, freed, busyPairs, busyPairs+1)
			}
			s.last = n
			pairs, freed = 0, 0
		}
	}
	return s, nil
}

func (k *kill) checkMarks(s *seen, required int64) error {
	if s.wrong != nil {
		return s.wrong
	}
	if !k.attach && s.first > 0 {
		return fmt.Errorf("the first mark is %d", s.first)
	}
	if k.attach && s.last < 0 {
		return nil // when the probes were there is not known
	}
	for n := s.last + 1; n < int(k.told.marks()); n++ {
		if int64(k.told.MarkNs[n]) <= required {
			return fmt.Errorf("mark %d is missing, made %v before the kill; the last is %d", n, time.Duration(k.at-int64(k.told.MarkNs[n])), s.last)
		}
	}
	return nil
}

func (k *kill) checkConns(s *seen, required int64) error {
	if s.first < 0 {
		return nil
	}
	from := k.told.MarkNs[s.first] // when the heap's probes were there, the others were
	for i := range k.told.Conns {
		c := &k.told.Conn[i]
		if c.OpenedNs >= from && int64(c.ClosedNs) <= required && !s.ports[c.Port] {
			return fmt.Errorf("the connection from port %d is missing, closed %v before the kill", c.Port, time.Duration(k.at-int64(c.ClosedNs)))
		}
	}
	return nil
}

// verbs runs what reads a capture: each says that the end is missing, and
// verify nothing beside it.
func (k *kill) verbs(path string) error {
	o := tcap(k.t, "verify", path)
	for line := range strings.Lines(o.stdout) {
		if !strings.HasPrefix(line, "end block") || !strings.Contains(line, "recorder was killed") {
			return fmt.Errorf("verify finds %q", line)
		}
	}
	if o.code != exitFailed || o.stdout == "" {
		return fmt.Errorf("verify: exit %d, %q", o.code, o.stdout)
	}
	for _, verb := range []struct{ args, says string }{
		{"info", "NOT CLEAN"}, {"analyze leaks", "INCOMPLETE"}, {"analyze heap", "INCOMPLETE"}, {"analyze tcp", "INCOMPLETE"},
	} {
		o := tcap(k.t, append(strings.Fields(verb.args), path)...)
		if o.code != exitOK || !strings.Contains(o.stdout, verb.says) {
			return fmt.Errorf("%s: exit %d, %s%s", verb.args, o.code, o.stdout, o.stderr)
		}
	}
	if o := tcap(k.t, "analyze", "leaks", "--strict", path); o.code != exitIncomplete {
		return fmt.Errorf("analyze leaks --strict: exit %d", o.code)
	}
	return nil
}

// leavesNoProbes checks that the next recorder takes away what killed ones left
// defined.
func leavesNoProbes(t *testing.T) {
	t.Helper()
	if o := tcap(t, "record", "-o", filepath.Join(t.TempDir(), "run.tcap"), "--", "true"); o.code != exitOK {
		t.Fatalf("record after the kills: exit %d, %s", o.code, o.stderr)
	}
	defined, err := os.ReadFile("/sys/kernel/tracing/uprobe_events")
	if err != nil {
		t.Logf("not checked what is left defined: %v", err)
		return
	}
	for line := range strings.Lines(string(defined)) {
		var pid int
		_, group, _ := strings.Cut(line, ":")
		if n, _ := fmt.Sscanf(group, "tcap_%d", &pid); n == 1 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			t.Errorf("a killed recorder's probe is left: %s", line)
		}
	}
}

// textIntact compares the code of the C library in a process with the file: a
// breakpoint would be a difference.
func textIntact(pid int) error {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer mem.Close()
	checked := false
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.Contains(f[1], "x") || !strings.HasPrefix(f[5], "/") {
			continue
		}
		var start, end, offset int64
		fmt.Sscanf(f[0], "%x-%x", &start, &end)
		fmt.Sscanf(f[2], "%x", &offset)
		want, err := os.ReadFile(f[5])
		if err != nil {
			return err
		}
		got := make([]byte, min(end-start, int64(len(want))-offset))
		if _, err := mem.ReadAt(got, start); err != nil {
			return err
		}
		for i := range got {
			if got[i] != want[offset+int64(i)] {
				return fmt.Errorf("pid %d has %#x at offset %#x of %s, which is %#x", pid, got[i], offset+int64(i), f[5], want[offset+int64(i)])
			}
		}
		checked = checked || strings.Contains(f[5], "libc")
	}
	if !checked {
		return errors.New("the process has no C library")
	}
	return nil
}

func (w *work) marks() uint64 {
	return atomic.LoadUint64(&w.Marks)
}

// eventually waits for what must come, and reports whether it came.
func eventually(ok func() bool) bool {
	deadline := time.Now().Add(kerneltest.Patience(30 * time.Second))
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(2 * time.Millisecond)
	}
	return true
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}
