package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// startBusy runs busy.c until the test ends, and returns what it tells.
func startBusy(t *testing.T) *kill {
	t.Helper()
	kerneltest.Require(t)
	k := &kill{t: t, dir: t.TempDir(), attach: true}
	shared := filepath.Join(k.dir, "progress")
	if err := k.share(shared); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(kerneltest.Build(t, faults+"busy.c"), shared)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if !eventually(func() bool { return k.told.marks() > 0 }) {
		t.Fatal("the program does not come to work")
	}
	return k
}

func (k *kill) pid() string { return fmt.Sprint(k.told.Pid) }

// harmless fails the test unless the program goes on without a breakpoint.
func (k *kill) harmless() {
	k.t.Helper()
	if err := k.unharmed(); err != nil {
		k.t.Error(err)
	}
}

// exact fails the test unless a capture has every event of the main thread
// between its first mark and its last.
func (k *kill) exact(path string) *seen {
	k.t.Helper()
	r, err := format.Open(path)
	if err != nil {
		k.t.Fatal(err)
	}
	defer r.Close()
	s, err := k.read(r)
	if err != nil {
		k.t.Fatal(err)
	}
	if s.wrong != nil || s.last < 0 {
		k.t.Errorf("%s: marks %d to %d: %v", path, s.first, s.last, s.wrong)
	}
	return s
}

// smallDisk mounts a file system of a few bytes.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	kerneltest.Require(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		kerneltest.Skip(t, "a tmpfs cannot be mounted: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that fills up ends the recording with a complete capture of what
// fitted; the target does not notice.
func TestDiskFills(t *testing.T) {
	t.Parallel()
	k := startBusy(t)
	path := filepath.Join(smallDisk(t, 128<<10), "run.tcap")
	o := tcap(t, "record", "-o", path, "-p", k.pid())
	for _, want := range []string{"no space left on device", "valid up to this point", "NOT WRITTEN", "write error"} {
		if o.code != exitFailed || !strings.Contains(o.stderr, want) {
			t.Errorf("exit %d, stderr %q, want %q", o.code, o.stderr, want)
		}
	}
	k.harmless()
	k.exact(path)
	k.incomplete(path)
}

// incomplete checks a whole capture that could not be written to its end.
func (k *kill) incomplete(path string) {
	k.t.Helper()
	intact(k.t, path)
	for _, verb := range []string{"info", "analyze leaks", "analyze tcp"} {
		o := tcap(k.t, append(strings.Fields(verb), path)...)
		if o.code != exitOK || !strings.Contains(o.stdout, "INCOMPLETE") || !strings.Contains(o.stdout, "could not be written") {
			k.t.Errorf("%s: exit %d, %s%s", verb, o.code, o.stdout, o.stderr)
		}
	}
	if o := tcap(k.t, "analyze", "leaks", "--strict", path); o.code != exitIncomplete {
		k.t.Errorf("analyze leaks --strict: exit %d", o.code)
	}
}

// A command whose recording could not go on is waited for, for who started it
// through tcap counts on that; then the failure is told.
func TestDiskFillsUnderCommand(t *testing.T) {
	t.Parallel()
	exe := kerneltest.Build(t, faults+"busy.c")
	k := &kill{t: t, dir: t.TempDir()}
	shared := filepath.Join(k.dir, "progress")
	if err := k.share(shared); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(smallDisk(t, 128<<10), "run.tcap")
	cmd := exec.Command(program, "record", "-o", path, "--", exe, shared)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { unix.Kill(int(k.told.Pid), unix.SIGKILL) }()
	var said bytes.Buffer
	for buf := make([]byte, 1024); !strings.Contains(said.String(), "the command goes on"); {
		n, err := stderr.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("tcap ends before the command: %s", said.String())
		}
	}
	k.harmless()
	k.exact(path)
	k.incomplete(path)
	// It is still there to hand on signals.
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = said.ReadFrom(stderr)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || strings.Contains(said.String(), "as pid") {
		t.Errorf("exit %d, %s", code, said.String())
	}
	if unix.Kill(int(k.told.Pid), 0) != unix.ESRCH {
		t.Error("the command did not get the signal")
	}
}

// The limit of file sizes is a full disk, and not the signal SIGXFSZ.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	k := startBusy(t)
	path := filepath.Join(k.dir, "run.tcap")
	o := finish(t, exec.Command("bash", "-c", `ulimit -f 128; exec "$0" record -o "$1" -p "$2"`, program, path, k.pid()))
	if o.code != exitFailed || !strings.Contains(o.stderr, "ulimit -f") {
		t.Errorf("exit %d, stderr %q", o.code, o.stderr)
	}
	k.harmless()
	k.exact(path)
	k.incomplete(path)
}

// A capture that is removed ends its recording.
func TestOutputRemoved(t *testing.T) {
	t.Parallel()
	k := startBusy(t)
	dir := filepath.Join(k.dir, "out")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "run.tcap")
	go func() {
		eventually(func() bool { return fileSize(path) > 0 })
		os.RemoveAll(dir)
	}()
	o := tcap(t, "record", "-o", path, "-p", k.pid(), "-d", "1m")
	if o.code != exitFailed || !strings.Contains(o.stderr, "removed") {
		t.Errorf("exit %d, stderr %q", o.code, o.stderr)
	}
	k.harmless()
}

// What was at the output's place before a recording that did not begin is there
// after it.
func TestOutputKept(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"-o " + fifo + " -- true", exitFailed, "a pipe"},
		{"--force -o " + fifo + " -- true", exitFailed, "a pipe"},
		{"--force -o /dev/full -- true", exitFailed, "a device"},
		{"--force -o /dev/null -- true", exitFailed, "a device"},
		{"--force -o " + dir + " -- true", exitFailed, "a directory"},
		{"-o /dev/stdout -- true", exitFailed, "a pipe"},
		{"-o - -- true", exitUsage, "a file"},
		{"--force -o " + old + " -- /no/such/program", exitNotFound, "/no/such/program"},
		{"--force -o " + old + " -p 2147483647", exitFailed, "no such process"},
	} {
		if o := tcap(t, append([]string{"record"}, strings.Fields(tt.args)...)...); o.code != tt.code || !strings.Contains(o.stderr, tt.says) {
			t.Errorf("record %s: exit %d, stderr %q", tt.args, o.code, o.stderr)
		}
	}
	for path, mode := range map[string]os.FileMode{fifo: os.ModeNamedPipe, "/dev/full": os.ModeCharDevice, "/dev/null": os.ModeCharDevice, old: 0} {
		if fi, err := os.Stat(path); err != nil || fi.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) != mode {
			t.Errorf("%s is not what it was: %v", path, err)
		}
	}
	if b, err := os.ReadFile(old); err != nil || string(b) != "precious" {
		t.Errorf("the file that was there: %q, %v", b, err)
	}
}

// Two recorders do not write to one file.
func TestOutputTaken(t *testing.T) {
	t.Parallel()
	k := startBusy(t)
	path := filepath.Join(k.dir, "run.tcap")
	first := exec.Command(program, "record", "-o", path, "-p", k.pid())
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	defer first.Process.Kill()
	if !eventually(func() bool { return fileSize(path) > 0 }) {
		t.Fatal("the recording does not begin")
	}
	if o := tcap(t, "record", "--force", "-o", path, "-p", k.pid()); o.code != exitFailed || !strings.Contains(o.stderr, "another tcap") {
		t.Errorf("exit %d, stderr %q", o.code, o.stderr)
	}
	if err := first.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	intact(t, path)
}

// --max-size ends the recording within one block of what the program did; what
// is to be said of the recording comes after it.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	k := startBusy(t)
	const limit = 64 << 10
	path := filepath.Join(k.dir, "run.tcap")
	o := tcap(t, "record", "-o", path, "-p", k.pid(), "--max-size", "64KiB")
	if o.code != exitOK || !strings.Contains(o.stderr, "size limit reached") {
		t.Errorf("exit %d, stderr %q", o.code, o.stderr)
	}
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	beyond, notes := 0, format.NewKindSet(format.KindNote)
	for _, b := range r.Blocks() {
		if b.Type == format.BlockEvents && b.Offset >= limit && b.Kinds != notes {
			beyond++
		}
	}
	if beyond > 1 || r.Size() < limit {
		t.Errorf("%d blocks of events after the limit, %d bytes", beyond, r.Size())
	}
	intact(t, path)
	k.exact(path)
	k.harmless()
}

// -d is the time between the first event and the last, about, and blocks whose
// frees came when probes were taken out already are no leaks.
func TestDuration(t *testing.T) {
	t.Parallel()
	k := startBusy(t)
	for i := range 3 {
		path := filepath.Join(k.dir, fmt.Sprint(i))
		o := tcap(t, "record", "-o", path, "-p", k.pid(), "-d", "300ms")
		if o.code != exitOK || !strings.Contains(o.stderr, "duration reached") || !strings.Contains(o.stderr, "none lost") {
			t.Errorf("exit %d, stderr %q", o.code, o.stderr)
		}
		intact(t, path)
		k.exact(path)
		var doc struct {
			Leaks []struct{ Bytes, Blocks int }
		}
		o = tcap(t, "analyze", "leaks", "--format", "json", "--group-by", "size", path)
		if err := json.Unmarshal([]byte(o.stdout), &doc); err != nil {
			t.Fatal(err)
		}
		for _, l := range doc.Leaks {
			if l.Bytes == 16*l.Blocks && l.Blocks > 1 {
				t.Errorf("%d blocks of 16 bytes leak, where at most one lives", l.Blocks)
			}
		}
	}
	k.harmless()
}

// What a ring has no room for is counted, to the event, and told everywhere.
func TestSmallRing(t *testing.T) {
	t.Parallel()
	kerneltest.Require(t)
	exe := kerneltest.Build(t, faults+"crowd.c")
	pairs := kerneltest.Repeat(300_000)
	count := func(ring string) (events, lost uint64, path, stderr string) {
		path = filepath.Join(t.TempDir(), "run.tcap")
		o := tcap(t, "record", "-o", path, "--ring-size", ring, "--", exe, "pairs", fmt.Sprint(pairs))
		if o.code != exitOK {
			t.Fatalf("exit %d, stderr %q", o.code, o.stderr)
		}
		intact(t, path)
		var doc struct {
			Kinds []struct {
				Kind         string
				Events, Lost uint64
			}
		}
		if err := json.Unmarshal([]byte(tcap(t, "info", "--format", "json", path).stdout), &doc); err != nil {
			t.Fatal(err)
		}
		for _, k := range doc.Kinds {
			if strings.HasPrefix(k.Kind, "heap.alloc") || k.Kind == "heap.free" {
				events, lost = events+k.Events, lost+k.Lost
			}
		}
		return events, lost, path, o.stderr
	}
	all, none, _, _ := count("64MiB")
	if none != 0 || all < 2*uint64(pairs) {
		t.Fatalf("a large ring: %d events, %d lost", all, none)
	}
	some, lost, path, stderr := count("4KiB")
	if lost == 0 || some+lost != all {
		t.Errorf("a small ring: %d events and %d lost, want %d together", some, lost, all)
	}
	if !strings.Contains(stderr, "LOST") || !strings.Contains(stderr, "--ring-size") {
		t.Errorf("the summary does not tell: %q", stderr)
	}
	for _, verb := range []string{"info", "analyze leaks", "analyze heap", "analyze tcp"} {
		o := tcap(t, append(strings.Fields(verb), path)...)
		if o.code != exitOK || !strings.Contains(o.stdout, "INCOMPLETE") || !strings.Contains(o.stdout, "events lost while recording") {
			t.Errorf("%s: exit %d, %s%s", verb, o.code, o.stdout, o.stderr)
		}
	}
	for _, verb := range []string{"leaks", "heap", "tcp"} {
		if o := tcap(t, "analyze", verb, "--strict", path); o.code != exitIncomplete {
			t.Errorf("analyze %s --strict: exit %d", verb, o.code)
		}
	}
}
