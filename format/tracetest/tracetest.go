// Package tracetest makes captures out of text, so that a test of an analysis
// is a file that one can read:
//
//	What this scenario shows.
//	-- trace --
//	0.000001 100/100 leaky heap.alloc addr=0x1000 size=32 stack=leak_here;main fn=malloc
//	0.000002 100/100 leaky heap.free addr=0x1000 fn=free
//	-- want/leaks.txt --
//	...
//
// The lines are those of [format.Format]; a line of the word probe and JSON
// declares a [format.Probe], whose calls name it. Where names are not all that is to be
// known of a stack, a section called stacks spells stacks out, a frame a line from
// the innermost on, and a trace says stack=@new for
//
//	@new
//	operator new(unsigned long) | /lib/libstdc++.so.6+0x4000
//	inner | /usr/bin/prog+0x3000 | /src/prog.cc:31 | inlined
//	- | /usr/bin/prog+0x2345
//	main | /usr/bin/prog+0x1000 | /src/prog.cc:10
//
// Sections other than these, header and trailer belong to the test; with
// -update, [Scenario.Golden] rewrites them.
package tracetest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/tcap-dev/tcap/format"
)

var update = flag.Bool("update", false, "rewrite golden sections and files with what the tests got")

// Start is the clock anchor of captures made here: neither clock is 0, so that
// a mix-up of relative and absolute times shows.
var Start = format.ClockAnchor{Mono: 1_000_000_000_000, Wall: 1_767_225_600_000_000_000} // 2026-01-01 UTC

// Update reports whether -update was given.
func Update() bool { return *update }

// A Scenario is a txtar file with a trace.
type Scenario struct {
	Path    string
	Comment string
	Reader  *format.Reader // of the capture that the trace section describes

	archive *txtar.Archive
}

// Glob reads every scenario that matches pattern and fails the test when none
// does.
func Glob(t testing.TB, pattern string) []*Scenario {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("scenarios %s: found none (%v)", pattern, err)
	}
	scenarios := make([]*Scenario, len(paths))
	for i, p := range paths {
		scenarios[i] = Read(t, p)
	}
	return scenarios
}

// Read reads a scenario. Its header section, JSON as of [format.Header], is
// optional, as is trailer; a trailer section that is empty leaves the capture
// without a clean end.
func Read(t testing.TB, path string) *Scenario {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &Scenario{Path: path, Comment: string(archive.Comment), archive: archive}
	s.Reader = s.Capture(t, "trace")
	return s
}

// Capture returns a reader of the capture that a section describes as trace does.
func (s *Scenario) Capture(t testing.TB, section string) *format.Reader {
	t.Helper()
	trace, ok := s.Section(section)
	if !ok {
		t.Fatalf("%s: no section %s", s.Path, section)
	}
	path := s.Path
	h := format.Header{Tool: "tcap", ToolVersion: "test", Start: Start}
	if text, ok := s.Section("header"); ok {
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			t.Fatalf("%s: header: %v", path, err)
		}
	}
	trailer := &format.Trailer{Reason: "exit"}
	if text, ok := s.Section("trailer"); ok {
		if strings.TrimSpace(text) == "" {
			trailer = nil
		} else if err := json.Unmarshal([]byte(text), trailer); err != nil {
			t.Fatalf("%s: trailer: %v", path, err)
		}
	}
	stacks, _ := s.Section("stacks")
	return open(t, path, build(t, path, stacks, trace, h, trailer, format.WriterOptions{}))
}

// Section returns the text of a section.
func (s *Scenario) Section(name string) (string, bool) {
	for _, f := range s.archive.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

// Golden compares got with a section of the scenario's file. With -update it
// rewrites, or adds, the section instead.
func (s *Scenario) Golden(t testing.TB, section string, got []byte) {
	t.Helper()
	if len(got) > 0 && got[len(got)-1] != '\n' {
		got = append(bytes.Clone(got), '\n') // as a txtar section ends
	}
	want, ok := s.Section(section)
	if ok && want == string(got) {
		return
	}
	if !*update {
		t.Errorf("%s: section %s (rewrite with -update):\n got:\n%s\nwant:\n%s", s.Path, section, got, want)
		return
	}
	if !ok {
		s.archive.Files = append(s.archive.Files, txtar.File{Name: section})
	}
	for i := range s.archive.Files {
		if s.archive.Files[i].Name == section {
			s.archive.Files[i].Data = got
		}
	}
	write(t, s.Path, txtar.Format(s.archive))
}

// Golden compares got with a file. With -update it rewrites the file instead.
func Golden(t testing.TB, path string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err == nil && bytes.Equal(want, got) {
		return
	}
	if *update {
		write(t, path, got)
		return
	}
	if err != nil {
		t.Errorf("golden file: %v (make it with -update)", err)
		return
	}
	t.Errorf("%s (rewrite with -update):\n got:\n%s\nwant:\n%s", path, got, want)
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Capture returns a reader of the capture that the lines of trace describe.
func Capture(t testing.TB, trace string) *format.Reader {
	t.Helper()
	return open(t, "trace", Bytes(t, trace, format.WriterOptions{}))
}

// Bytes returns the file of the capture that the lines of trace describe.
func Bytes(t testing.TB, trace string, o format.WriterOptions) []byte {
	t.Helper()
	h := format.Header{Tool: "tcap", ToolVersion: "test", Start: Start}
	return build(t, "trace", "", trace, h, &format.Trailer{Reason: "exit"}, o)
}

func build(t testing.TB, name, stacks, trace string, h format.Header, trailer *format.Trailer, o format.WriterOptions) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := format.NewWriter(&buf, h, o)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	trace = spellOut(t, w, stacks, trace)
	if err := format.Parse(w, strings.NewReader(trace)); err != nil {
		t.Fatalf("%s: trace: %v", name, err)
	}
	if trailer == nil {
		if err := w.Flush(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		cut := bytes.Clone(buf.Bytes())
		if err := w.Close(format.Trailer{}); err != nil { // ends its goroutine
			t.Fatalf("%s: %v", name, err)
		}
		return cut
	}
	if err := w.Close(*trailer); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return buf.Bytes()
}

func open(t testing.TB, name string, file []byte) *format.Reader {
	t.Helper()
	r, err := format.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
