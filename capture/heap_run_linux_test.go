package capture_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze"
	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// These tests record programs that tell the truth about themselves (see
// testdata/programs/heap/truth.h) and compare the capture with it: each event
// where one thread acts, and the totals of `tcap analyze leaks` to the byte.

// envFull set to 1 runs TestHeapTotals at its full size.
const envFull = "TCAP_FULL"

// patience is how long a test waits for what must come.
var patience = func() time.Duration {
	d := kerneltest.Patience(60 * time.Second)
	if os.Getenv(envFull) == "1" {
		d *= 10
	}
	return d
}()

const (
	programs = "../testdata/programs/heap/"
	musl     = "-specs=/usr/lib/x86_64-linux-musl/musl-gcc.specs"
	mark     = 31337 // MARK of truth.h
)

// build compiles a program of testdata/programs/heap. Calls of allocators are
// kept as they are written.
func build(t testing.TB, name string, flags ...string) string {
	t.Helper()
	kerneltest.Require(t)
	// The hash that names the program must cover the header.
	header, err := os.ReadFile(programs + "truth.h")
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("-DTRUTH=%d", len(header))
	return kerneltest.Build(t, programs+name, append([]string{"-O2", "-fno-builtin", "-w", id}, flags...)...)
}

// some are the first of several variants of a test: all on an ordinary machine,
// one on a slow one.
func some[T any](list []T) []T { return list[:kerneltest.Repeat(len(list))] }

// A result is a finished recording and what the recorded program said.
type result struct {
	t     *testing.T
	path  string
	sum   *capture.Summary
	said  []string          // facts, in order
	value map[string]string // key=value lines
	notes string            // what tcap said on stderr
	out   string            // all that the program said
}

func options(t *testing.T) (capture.Options, *bytes.Buffer) {
	var notes bytes.Buffer
	return capture.Options{
		Output: filepath.Join(t.TempDir(), "x.tcap"), Packs: []string{"heap"}, Stderr: &notes,
	}, &notes
}

// record runs a program under a recording.
func record(t *testing.T, argv ...string) *result {
	t.Helper()
	o, notes := options(t)
	return recordWith(t, o, notes, argv...)
}

// recordWith is record with options of the test's own. The program writes to
// the test's standard output, which is a file meanwhile.
func recordWith(t *testing.T, o capture.Options, notes *bytes.Buffer, argv ...string) *result {
	t.Helper()
	kerneltest.Require(t)
	out, err := os.CreateTemp(t.TempDir(), "stdout")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdout := os.Stdout
	os.Stdout = out
	defer func() { os.Stdout = stdout }()
	o.Command = argv
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sum, err := capture.Record(ctx, o)
	if err != nil {
		t.Fatalf("record %q: %v", argv, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%q did not end within %v", argv, patience)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	r := &result{t: t, path: o.Output, sum: sum, notes: notes.String(), out: string(text)}
	r.hear(r.out)
	return r
}

// hear takes lines of the program.
func (r *result) hear(text string) {
	if r.value == nil {
		r.value = map[string]string{}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if k, v, ok := strings.Cut(line, "="); ok && !strings.Contains(k, " ") {
			r.value[k] = v
		} else if f, _, _ := strings.Cut(line, " "); facts[f] {
			r.said = append(r.said, line)
		}
	}
	if e := r.value["error"]; e != "" {
		r.t.Fatalf("the program could not do its part: %s", e)
	}
}

var facts = map[string]bool{"alloc": true, "realloc": true, "free": true, "map": true, "unmap": true, "remap": true, "brk": true}

// complete fails the test unless the program came to its end and nothing was lost.
func (r *result) complete() *result {
	r.t.Helper()
	if r.value["end"] != "1" || r.sum.ExitStatus != 0 {
		r.t.Fatalf("the program did not come to its end: exit status %d, said %v", r.sum.ExitStatus, r.value)
	}
	return r.quiet()
}

// quiet fails the test if anything was lost, or tcap had a remark.
func (r *result) quiet() *result {
	r.t.Helper()
	if r.sum.Lost != 0 {
		r.t.Fatalf("%d events lost", r.sum.Lost)
	}
	if r.notes != "" {
		r.t.Errorf("tcap said %q", r.notes)
	}
	return r
}

// number reads a value that the program said.
func (r *result) number(key string) uint64 {
	r.t.Helper()
	n, err := strconv.ParseUint(r.value[key], 0, 64)
	if err != nil {
		r.t.Fatalf("the program did not say %s: %v", key, err)
	}
	return n
}

// A happening is an event and who did it.
type happening struct {
	format.Event
	task format.Task
}

// events reads all events of some kinds.
func (r *result) events(kinds ...format.Kind) []happening {
	r.t.Helper()
	f, err := format.Open(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	var list []happening
	for e, err := range f.Events(format.Filter{Kinds: format.NewKindSet(kinds...)}) {
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, happening{*e, f.Task(e.Task)})
	}
	return list
}

// fact is the event as the programs tell it; "" for kinds that they do not.
func (h *happening) fact(fns []string) string {
	switch v := &h.V; h.Kind {
	case format.KindAlloc:
		return fmt.Sprintf("alloc %s %d %#x", fns[v[format.AllocFn]], v[format.AllocSize], v[format.AllocAddr])
	case format.KindRealloc:
		return fmt.Sprintf("realloc %s %d %#x %#x", fns[v[format.ReallocFn]], v[format.ReallocSize], v[format.ReallocOld], v[format.ReallocAddr])
	case format.KindFree:
		return fmt.Sprintf("free %s %#x", fns[v[format.FreeFn]], v[format.FreeAddr])
	case format.KindMap:
		return fmt.Sprintf("map %d %#x", v[format.MapLength], v[format.MapAddr])
	case format.KindUnmap:
		return fmt.Sprintf("unmap %d %#x", v[format.UnmapLength], v[format.UnmapAddr])
	case format.KindRemap:
		return fmt.Sprintf("remap %d %#x %d %#x", v[format.RemapOldLength], v[format.RemapOld], v[format.RemapLength], v[format.RemapAddr])
	case format.KindBrk:
		return fmt.Sprintf("brk %#x %#x", v[format.BrkOld], v[format.BrkNew])
	}
	return ""
}

// names of the functions of heap events.
func functions() []string {
	return format.Kinds[format.KindAlloc].Fields[format.AllocFn].Enum
}

var heapKinds = []format.Kind{format.KindAlloc, format.KindRealloc, format.KindFree}

// marked are the events of some kinds after a first mark and before a second,
// after a third and before a fourth, and so on.
func (r *result) marked(kinds ...format.Kind) []happening {
	r.t.Helper()
	wanted := format.NewKindSet(kinds...)
	var list []happening
	inside := false
	var freed uint64 // the mark, which is freed next
	for _, h := range r.events(append([]format.Kind{format.KindAlloc, format.KindFree}, kinds...)...) {
		switch {
		case h.Kind == format.KindAlloc && h.V[format.AllocSize] == mark:
			inside = !inside
			freed = h.V[format.AllocAddr]
		case h.Kind == format.KindFree && h.V[format.FreeAddr] == freed:
			freed = 0
		case inside && wanted.Has(h.Kind):
			list = append(list, h)
		}
	}
	return list
}

// exact compares the heap events between the marks with what the program told.
func (r *result) exact() {
	r.t.Helper()
	var got []string
	for _, h := range r.marked(heapKinds...) {
		got = append(got, h.fact(functions()))
	}
	r.same(got, r.said)
}

// same compares facts.
func (r *result) same(got, want []string) {
	r.t.Helper()
	if len(want) == 0 {
		r.t.Error("the program told no facts")
	}
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if !sameFact(g, w) {
			r.t.Errorf("event %d is %q, the program did %q\ngot:\n\t%s\nwant:\n\t%s", i, g, w,
				strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			return
		}
	}
}

// sameFact compares two facts, the second of which may name alternatives.
func sameFact(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	if len(g) != len(w) {
		return false
	}
	for i := range g {
		match := false
		for alternative := range strings.SplitSeq(w[i], "|") {
			match = match || g[i] == alternative
		}
		if !match {
			return false
		}
	}
	return true
}

// leaks runs the analysis with flags of its own.
func (r *result) leaks(flags ...string) *analyze.Leaks {
	r.t.Helper()
	return r.leaksFrom(0, flags...)
}

// leaksFrom leaves out what was born before a time, on the clock of the events.
func (r *result) leaksFrom(from int64, flags ...string) *analyze.Leaks {
	r.t.Helper()
	f, err := format.Open(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	for _, a := range analyze.List() {
		if a.Name != "leaks" {
			continue
		}
		fs := pflag.NewFlagSet("leaks", pflag.ContinueOnError)
		runner := a.New(fs)
		if err := fs.Parse(flags); err != nil {
			r.t.Fatal(err)
		}
		res, err := runner.Run(r.t.Context(), f, format.Filter{From: from})
		if err != nil {
			r.t.Fatal(err)
		}
		return res.(*analyze.Leaks)
	}
	r.t.Fatal("there is no analysis of leaks")
	return nil
}

// leaked compares the totals of the analysis with what the program says it
// left: blocks=N and bytes=N.
func (r *result) leaked() *analyze.Leaks {
	r.t.Helper()
	l := r.leaks()
	if blocks, bytes := r.number("blocks"), r.number("bytes"); l.Total.Blocks != blocks || l.Total.Bytes != bytes {
		r.t.Errorf("leaks: %d blocks and %d bytes, the program left %d and %d\n%s",
			l.Total.Blocks, l.Total.Bytes, blocks, bytes, r.text(l))
	}
	if l.UnknownFrees != 0 || l.DoubleFrees != 0 || l.InferredFrees != 0 {
		r.t.Errorf("frees: %d unknown, %d double, %d inferred, want none", l.UnknownFrees, l.DoubleFrees, l.InferredFrees)
	}
	return l
}

func (r *result) text(l *analyze.Leaks) string {
	var b bytes.Buffer
	if err := l.Text(&b, 120); err != nil {
		r.t.Fatal(err)
	}
	return b.String()
}

func itoa[T int | uint64 | uint32](n T) string { return strconv.FormatUint(uint64(n), 10) }

// An order is what legal found in a history, so that a test can say that what
// it checks has happened.
type order struct {
	handed int // frees by another thread than the one that had the block made
	reused int // births at an address at which a block has died
}

// legal checks the order of the events alone: no address is handed out twice
// without dying in between, none dies twice, and no thread's time goes back. It
// knows nothing of the analysis, and no race between a realloc and a malloc.
func (r *result) legal() (seen order) {
	r.t.Helper()
	type key struct {
		space uint32
		addr  uint64
	}
	live, dead := map[key]uint32{}, map[key]bool{} // by whom
	last := map[uint32]int64{}
	bad := 0
	wrong := func(h happening, what string) {
		if bad++; bad <= 5 {
			r.t.Errorf("event %d, %s: %s", h.Seq, h.fact(functions()), what)
		}
	}
	for _, h := range r.events(heapKinds...) {
		died, born := uint64(0), uint64(0)
		switch h.Kind {
		case format.KindAlloc:
			born = h.V[format.AllocAddr]
		case format.KindFree:
			died = h.V[format.FreeAddr]
		case format.KindRealloc:
			died, born = h.V[format.ReallocOld], h.V[format.ReallocAddr]
		}
		if h.Time < last[h.task.Tid] {
			wrong(h, "the thread did something later before")
		}
		last[h.task.Tid] = h.Time
		if k := (key{h.task.Space, died}); died != 0 {
			by, ok := live[k]
			if !ok {
				wrong(h, "no block is live there")
			} else if by != h.task.Tid {
				seen.handed++
			}
			delete(live, k)
			dead[k] = true
		}
		if k := (key{h.task.Space, born}); born != 0 {
			if _, ok := live[k]; ok {
				wrong(h, "a block is live there already")
			}
			if dead[k] {
				seen.reused++
			}
			live[k] = h.task.Tid
		}
	}
	if len(live) == 0 {
		r.t.Error("no block is live: was anything recorded?")
	}
	return seen
}
