package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// program is tcap, which tests run as a user does: it is the test binary, in
// the environment of envMain.
var program string

// envMain makes the test binary tcap.
const envMain = "TCAP_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(envMain) != "" {
		main()
	}
	exe, err := os.Executable()
	if err == nil {
		err = os.Setenv(envMain, "1") // for all that is started here
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = exe
	os.Exit(m.Run())
}

// An outcome is what a run of tcap left.
type outcome struct {
	code           int
	stdout, stderr string
}

// tcap runs a command line to its end.
func tcap(t *testing.T, args ...string) outcome {
	t.Helper()
	return finish(t, exec.Command(program, args...))
}

// finish runs a command and checks what holds of every run: no panic, and on
// stderr only lines of tcap's own.
func finish(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	o := outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	checkStderr(t, cmd.Args[1:], o.stderr)
	return o
}

func checkStderr(t *testing.T, args []string, stderr string) {
	t.Helper()
	if strings.Contains(stderr, "panic:") || strings.Contains(stderr, "goroutine ") {
		t.Fatalf("%q panics:\n%s", args, stderr)
	}
	if len(args) == 0 {
		return // the help text
	}
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "tcap: ") || !strings.HasSuffix(line, "\n") {
			t.Errorf("%q: line on stderr is not tcap's: %q", args, line)
		}
	}
}

// capture writes a capture of n pairs of malloc and free and a connection, and
// returns its path. Names in it try to harm a terminal.
func writeCapture(t testing.TB, n, blockEvents int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run.tcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start := format.ClockAnchor{Mono: 5e9, Wall: 1_767_225_600_000_000_000} // 2026-01-01 UTC
	w, err := format.NewWriter(f, format.Header{
		Tool: "tcap", ToolVersion: "test", Host: "here\x1b[2J", Kernel: "6.1", Arch: "amd64", OS: "linux", CPUs: 2,
		Command: []string{"tcap", "record", "\x07", strings.Repeat("x", 200)}, Targets: []string{"pid 100"},
		Packs: []string{"heap", "tcp"}, Stacks: "fp", Start: start, Flush: 400e6,
	}, format.WriterOptions{BlockEvents: blockEvents})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range scenario(w, n, start.Mono) {
		if err := w.Append(&e); err != nil {
			t.Fatal(err)
		}
	}
	end := format.ClockAnchor{Mono: start.Mono + 2e9, Wall: start.Wall + 2e9}
	if err := w.Close(format.Trailer{End: end, Reason: "command exited"}); err != nil {
		t.Fatal(err)
	}
	return path
}

const hostile = "evil\x1b[31m\r\n\u202e\xff"

func scenario(w *format.Writer, n int, now int64) []format.Event {
	server := w.Task(format.Task{Pid: 100, Tid: 100, Space: 1, Uid: 1000, Comm: "server"})
	evil := w.Task(format.Task{Pid: 200, Tid: 201, Space: 2, Comm: hostile[:15]})
	lib := w.Module(format.Module{Path: "/lib/" + hostile + strings.Repeat("/long", 30), BuildID: strings.Repeat("ab", 20)})
	leak := w.Frame(format.Frame{Module: lib, Offset: 0x10, Function: "leak" + hostile, File: "leak.c", Line: 7})
	stack := w.Stack(w.Stack(0, w.Frame(format.Frame{Module: lib, Offset: 0x20, Function: "main"})), leak)
	var events []format.Event
	add := func(k format.Kind, task format.TaskID, v ...uint64) {
		now += 1000
		e := format.Event{Kind: k, Task: task, Time: now}
		copy(e.V[:], v)
		events = append(events, e)
	}
	for i := range uint64(n) {
		add(format.KindAlloc, server, 0x1000+i%64*16, 32, uint64(stack), format.FnMalloc)
		add(format.KindFree, server, 0x1000+i%64*16, format.FnFree)
	}
	add(format.KindAlloc, evil, 0x9000, 4096, uint64(stack), format.FnMalloc)
	add(format.KindTCPEndpoints, server, 7, 1, format.FamilyIPv4, uint64(w.String("10.0.0.1")), 1234, uint64(w.String("10.0.0.2")), 80, 1000)
	add(format.KindTCPState, server, 7, format.TCPClose, format.TCPSynSent, 0, 0, 0, 0, 0, 0, 0, 1)
	add(format.KindTCPState, server, 7, format.TCPSynSent, format.TCPEstablished)
	return events
}

func edit(t *testing.T, path string, fn func([]byte) []byte) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "edited.tcap")
	if err := os.WriteFile(out, fn(b), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestUsage(t *testing.T) {
	file := writeCapture(t, 10, 0)
	for _, tt := range []struct {
		args string
		says string
	}{
		{"", "Usage:"},
		{"frob", "unknown command"},
		{"--bogus", "unknown flag: --bogus"},
		{"info --bogus x", "unknown flag: --bogus"},
		{"info", "see tcap info --help"},
		{"info a b", "see tcap info --help"},
		{"print", "see tcap print --help"},
		{"verify", "see tcap verify --help"},
		{"doctor x", "see tcap doctor --help"},
		{"doctor --format x", "text or json"},
		{"info --format x FILE", "text or json"},
		{"print --format x FILE", "text or json"},
		{"print --from noon FILE", "not a time"},
		{"print --to x FILE", "not a time"},
		{"print --from 2s --to 1s FILE", "before"},
		{"print --kind heap.frob FILE", "no such kind"},
		{"print --pid x FILE", "--pid"},
		{"print --pid -1 FILE", "--pid"},
		{"analyze", "see tcap analyze --help"},
		{"analyze frob FILE", "no such analysis"},
		{"analyze leaks", "see tcap analyze leaks --help"},
		{"analyze leaks --format x FILE", "format"},
		{"analyze leaks --cost peak FILE", "leaked, allocated, allocs"},
		{"diff FILE", "takes BEFORE AFTER, not 1 argument"},
		{"diff --cost love FILE FILE", "leaked, peak, live, allocated, allocs, temporary"},
		{"diff --format folded FILE FILE", "text, json, csv, pprof"},
		{"analyze leaks --from noon FILE", "not a time"},
		{"record", "-o FILE"},
		{"record -o x y", "--"},
		{"record -o x --bogus", "unknown flag"},
		{"record -o x -p 0", "positive"},
		{"record -o x -p nginx", "--pid"},
		{"record -o x -d 1x", "--duration"},
		{"record -o x -d -1s", "positive"},
		{"record -o x --max-size much", "not a size"},
		{"probes", "list or explain"},
		{"probes frob", "list and explain"},
		{"probes explain", "see tcap probes explain --help"},
		{"probes explain frob", "want uprobe, uretprobe, usdt"},
		{"probes list uprobe:x", "want PATH:FUNCTION"},
		{"probes list -p 0", "positive"},
		{"probes list -p 1 x", "either"},
	} {
		args := strings.Fields(strings.ReplaceAll(tt.args, "FILE", file))
		o := tcap(t, args...)
		if o.code != exitUsage || o.stdout != "" || !strings.Contains(o.stderr, tt.says) {
			t.Errorf("tcap %s: exit %d, stdout %q, stderr %q, want %q", tt.args, o.code, o.stdout, o.stderr, tt.says)
		}
	}
}

// reading are the verbs that read a capture.
var reading = [][]string{
	{"info"}, {"info", "--format", "json"}, {"print"}, {"print", "--format", "json"}, {"verify"},
	{"analyze", "leaks"}, {"analyze", "heap"}, {"analyze", "tcp"}, {"analyze", "tcp", "--summary"}, {"analyze", "leaks", "--format", "json"},
}

func TestNoCapture(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "nothing")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cut := edit(t, writeCapture(t, 10, 0), func(b []byte) []byte { return b[:50] })
	future := edit(t, writeCapture(t, 10, 0), func(b []byte) []byte { return newerMajor(t, b) })
	for _, tt := range []struct{ path, says string }{
		{filepath.Join(dir, "none"), "no such file"},
		{dir, "not a regular file"},
		{empty, "the file is empty"},
		{program, "not a tcap capture"},
		{cut, "begins as a capture"},
		{os.DevNull, "not a regular file"},
		{future, "use a newer tcap"},
	} {
		for _, verb := range reading {
			o := tcap(t, append(verb, tt.path)...)
			if o.code != exitFailed || o.stdout != "" || !strings.Contains(o.stderr, tt.says) || strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("tcap %q %s: exit %d, stdout %q, stderr %q, want %q", verb, tt.path, o.code, o.stdout, o.stderr, tt.says)
			}
		}
	}
}

func TestIntact(t *testing.T) {
	path := writeCapture(t, 1000, 100)
	for _, verb := range reading {
		o := tcap(t, append(verb, path)...)
		if o.code != exitOK || o.stdout == "" || o.stderr != "" {
			t.Errorf("tcap %q: exit %d, %d bytes of stdout, stderr %q", verb, o.code, len(o.stdout), o.stderr)
		}
		harmless(t, verb, o.stdout)
	}
	if o := tcap(t, "print", "--strict", path); o.code != exitOK {
		t.Errorf("print --strict: exit %d, %s", o.code, o.stderr)
	}
	if o := tcap(t, "verify", path); !strings.HasPrefix(o.stdout, "ok: ") || strings.Count(o.stdout, "\n") != 1 {
		t.Errorf("verify says %q", o.stdout)
	}
}

// harmless checks that text of a capture cannot disturb a terminal.
func harmless(t *testing.T, verb []string, out string) {
	t.Helper()
	if !utf8.ValidString(out) {
		t.Errorf("tcap %q: output is no UTF-8", verb)
	}
	for _, c := range out {
		if c != '\n' && c != '\t' && unicode.IsControl(c) {
			t.Errorf("tcap %q: control character %U in the output", verb, c)
			return
		}
	}
}

// A file that was cut, as by a kill of the recorder, is read up to the cut; it
// says so, and --strict makes that an error.
func TestCut(t *testing.T) {
	whole := writeCapture(t, 1000, 100)
	path := edit(t, whole, func(b []byte) []byte { return b[:len(b)*2/3] })
	for _, verb := range reading {
		o := tcap(t, append(verb, path)...)
		want := exitOK
		if verb[0] == "verify" {
			want = exitFailed
		}
		if o.code != want || o.stdout == "" {
			t.Errorf("tcap %q: exit %d, stdout %d bytes, stderr %q", verb, o.code, len(o.stdout), o.stderr)
		}
	}
	for _, verb := range [][]string{{"print", "--strict"}, {"analyze", "leaks", "--strict"}, {"analyze", "tcp", "--strict"}} {
		if o := tcap(t, append(verb, path)...); o.code != exitIncomplete || o.stdout == "" || !strings.Contains(o.stderr, "incomplete") {
			t.Errorf("tcap %q: exit %d, stderr %q", verb, o.code, o.stderr)
		}
	}
	o := tcap(t, "info", path)
	for _, want := range []string{"NOT CLEAN", "400ms", "INCOMPLETE", "heap.alloc"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("info does not say %q:\n%s", want, o.stdout)
		}
	}
	if o := tcap(t, "print", path); !strings.Contains(o.stderr, "no clean end") {
		t.Errorf("print says %q", o.stderr)
	}
}

func TestPrint(t *testing.T) {
	path := writeCapture(t, 10, 0)
	lines := func(args ...string) []string {
		t.Helper()
		o := tcap(t, append([]string{"print", path}, args...)...)
		if o.code != exitOK || o.stderr != "" {
			t.Fatalf("print %q: exit %d, %s", args, o.code, o.stderr)
		}
		return strings.Split(strings.TrimSuffix(o.stdout, "\n"), "\n")
	}
	if got := lines(); len(got) != 24 || got[1] != "0.000002000 100/100@1 server heap.free addr=0x1000 fn=free" {
		t.Errorf("%d lines, the second %q", len(got), got[1])
	}
	for _, tt := range []struct {
		args string
		want int
	}{
		{"--kind heap", 21}, {"--kind heap.free", 10}, {"--kind tcp,heap.free", 13}, {"--pid 100", 23}, {"--tid 201", 1},
		{"--pid 100 --pid 200", 24}, {"--comm server", 23}, {"--comm none", 0}, {"--from 20us", 5}, {"--to 0.000005", 5},
		{"--from 2us --to 3us", 2}, {"--from 2026-01-01T00:00:00.00002Z", 5}, {"--kind tcp --pid 200", 0},
	} {
		got := lines(strings.Fields(tt.args)...)
		if n := len(got); n != tt.want && !(tt.want == 0 && n == 1 && got[0] == "") {
			t.Errorf("%s: %d lines, want %d", tt.args, n, tt.want)
		}
	}
	for i, line := range lines("--format", "json") {
		var obj struct {
			Seq  int
			Kind string
		}
		if err := json.Unmarshal([]byte(line), &obj); err != nil || obj.Seq != i || obj.Kind == "" {
			t.Errorf("line %d: %s: %v", i, line, err)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if got := lines("-o", out); len(got) != 1 || got[0] != "" {
		t.Errorf("print -o writes to stdout: %q", got)
	}
	if b, err := os.ReadFile(out); err != nil || bytes.Count(b, []byte("\n")) != 24 {
		t.Errorf("print -o: %v, %d bytes", err, len(b))
	}
	if o := tcap(t, "print", path, "-o", "/nonexistent/out"); o.code != exitFailed {
		t.Errorf("print -o /nonexistent/out: exit %d", o.code)
	}
}

func TestInfo(t *testing.T) {
	path := writeCapture(t, 1000, 100)
	o := tcap(t, "info", path)
	for _, want := range []string{
		"2026-01-01 00:00:00.000 UTC, for 2.000 s", "linux 6.1", "pid 100", "heap, tcp; stacks: fp", "clean: command exited",
		"2,004 events", "abababababab  ", "of 2 frames in modules 2 have a function", "debug file: .build-id/ab/abab", "Complete: no event lost, clean end.\n",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("info does not say %q:\n%s", want, o.stdout)
		}
	}
	for line := range strings.Lines(o.stdout) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if all := tcap(t, "info", "--all", path).stdout; !strings.Contains(all, strings.Repeat("ab", 20)) {
		t.Errorf("info --all cuts build-ids:\n%s", all)
	}
	var doc struct {
		Capture struct {
			Host       string
			DurationNs int64 `json:"duration_ns"`
		}
		Completeness struct {
			Truncated  *bool
			LostEvents map[string]uint64 `json:"lost_events"`
		}
		Events uint64
		Kinds  []struct {
			Kind   string
			Events uint64
			Bytes  uint64
		}
		Processes []struct{ Pid, Threads int }
	}
	o = tcap(t, "info", "--format", "json", path)
	if err := json.Unmarshal([]byte(o.stdout), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Capture.Host != "here\x1b[2J" || doc.Capture.DurationNs != 2e9 || doc.Completeness.Truncated == nil || doc.Completeness.LostEvents == nil {
		t.Errorf("info --format json: %+v", doc)
	}
	sum, byKind := uint64(0), map[string]uint64{}
	for _, k := range doc.Kinds {
		sum += k.Events
		byKind[k.Kind] = k.Events
		if k.Bytes == 0 {
			t.Errorf("%s takes no bytes", k.Kind)
		}
	}
	if sum != doc.Events || sum != 2004 || byKind["heap.free"] != 1000 || byKind["tcp.state"] != 2 || len(doc.Processes) != 2 {
		t.Errorf("info --format json: %+v", doc)
	}
}

// A reader that goes away ends tcap without a word.
func TestClosedPipe(t *testing.T) {
	path := writeCapture(t, 20000, 0)
	for _, verb := range reading {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close() // as head does once it has seen enough
		cmd := exec.Command(program, append(verb, path)...)
		cmd.Stdout = w
		o := finish(t, cmd)
		w.Close()
		if o.code != exitOK || o.stderr != "" {
			t.Errorf("tcap %q: exit %d, stderr %q", verb, o.code, o.stderr)
		}
	}
}

// What cannot be written is an error.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	path := writeCapture(t, 1000, 0)
	commands := [][]string{{"--help"}, {"--version"}, {"record", "--help"}}
	for _, verb := range reading {
		commands = append(commands, append(slices.Clone(verb), path))
	}
	for _, verb := range commands {
		cmd := exec.Command(program, verb...)
		cmd.Stdout = full
		if o := finish(t, cmd); o.code != exitFailed || !strings.Contains(o.stderr, "no space left") {
			t.Errorf("tcap %q: exit %d, stderr %q", verb, o.code, o.stderr)
		}
	}
}

func TestExplainStripped(t *testing.T) {
	const src = "testdata/leak.c"
	exe := kerneltest.Build(t, src, "-s")
	o := tcap(t, "probes", "explain", "uprobe:"+exe+":leak_here")
	if o.code != exitFailed || !strings.Contains(o.stderr, "no such function") || !strings.Contains(o.stderr, "debug") {
		t.Errorf("exit %d, stderr %q", o.code, o.stderr)
	}
	if o := tcap(t, "probes", "list", "uprobe:"+exe+":leak*"); o.code != exitFailed {
		t.Errorf("list: exit %d, stderr %q", o.code, o.stderr)
	}
	if o := tcap(t, "probes", "explain", "uprobe:"+src+":main"); o.code != exitFailed || !strings.Contains(o.stderr, "ELF") {
		t.Errorf("explain of a text file: exit %d, stderr %q", o.code, o.stderr)
	}
	if o := tcap(t, "probes", "list"); o.code != exitOK || !strings.Contains(o.stdout, "tp_btf:inet_sock_set_state\n") {
		t.Errorf("list: exit %d, %q", o.code, o.stdout)
	}
}
