package analyze

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/internal/synth"
	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

// synthetic returns a capture of the benchmarks' program, as bytes.
func synthetic(t testing.TB, o synth.Options) ([]byte, synth.Truth) {
	t.Helper()
	var buf bytes.Buffer
	truth, err := synth.Write(&buf, o)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), truth
}

func open(t testing.TB, file []byte) *format.Reader {
	t.Helper()
	r, err := format.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// TestSynthetic compares totals with what the program knows of itself, and the
// sum of the folded stacks with the total.
func TestSynthetic(t *testing.T) {
	for _, o := range []synth.Options{{Events: 300_000}, {Events: 200_000, Live: 10}, {Events: 200_000, Live: 150_000, Leak: 5}} {
		file, truth := synthetic(t, o)
		res, _ := runLine(t, open(t, file), "leaks", nil, nil)
		l := res.(*Leaks)
		if l.Total.Bytes != truth.LeakedBytes || l.Total.Blocks != truth.LeakedBlocks || l.Allocations.Blocks != truth.Allocations {
			t.Errorf("%+v: total %+v of %d, want %+v", o, l.Total, l.Allocations.Blocks, truth)
		}
		if l.UnknownFrees+l.DoubleFrees+l.InferredFrees != 0 || l.Uncertain.Blocks != 0 {
			t.Errorf("%+v: unknown %d, double %d, inferred %d, uncertain %d", o, l.UnknownFrees, l.DoubleFrees, l.InferredFrees, l.Uncertain.Blocks)
		}
		if got := foldedSum(t, res); got != truth.LeakedBytes {
			t.Errorf("%+v: folded stacks sum to %d, want %d", o, got, truth.LeakedBytes)
		}
		heap, _ := runLine(t, open(t, file), "heap", nil, nil)
		h := heap.(*Heap)
		if h.Live != l.Total || h.Allocations != l.Allocations {
			t.Errorf("%+v: heap says %+v live of %+v, leaks %+v of %+v", o, h.Live, h.Allocations, l.Total, l.Allocations)
		}
		var peak uint64
		for _, s := range h.Stacks {
			peak += s.Peak.Bytes
		}
		if peak != h.Peak.Bytes || foldedSum(t, heap) != peak {
			t.Errorf("%+v: stacks have %d bytes at the peak of %d", o, peak, h.Peak.Bytes)
		}
	}
}

func foldedSum(t *testing.T, res Result) (sum uint64) {
	t.Helper()
	var buf bytes.Buffer
	if err := Render(&buf, res, "folded", 80); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(buf.String()) {
		var n uint64
		at := strings.LastIndexByte(line, ' ')
		if _, err := fmt.Sscan(line[at+1:], &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += n
	}
	return sum
}

// TestDamagedBlock flips a byte in a block of events: its blocks are lost, all
// others are there, the bounds hold and the blocks of before are uncertain.
func TestDamagedBlock(t *testing.T) {
	file, truth := synthetic(t, synth.Options{Events: 300_000, Leak: 20})
	var events []format.BlockInfo
	for _, b := range open(t, file).Blocks() {
		if b.Type == format.BlockEvents {
			events = append(events, b)
		}
	}
	if len(events) < 4 {
		t.Fatalf("%d blocks of events, want some before and after the damage", len(events))
	}
	broken := bytes.Clone(file)
	hit := events[2]
	broken[hit.Offset+64+int64(hit.StoredLen)/2] ^= 1
	res, _ := runLine(t, open(t, broken), "leaks", nil, nil)
	l := res.(*Leaks)
	q := l.Completeness()
	if q.DamagedBlocks != 1 || q.MissingEvents != uint64(hit.Events) || q.Complete() {
		t.Errorf("completeness %+v, want one damaged block of %d events", q, hit.Events)
	}
	b := l.Bounds
	if b.Unbounded || b.FalseBlocks == 0 || b.MissingBlocks != uint64(hit.Events) {
		t.Errorf("bounds %+v", b)
	}
	if low := l.Total.Blocks - b.FalseBlocks; low > truth.LeakedBlocks || l.Total.Blocks+b.MissingBlocks < truth.LeakedBlocks {
		t.Errorf("%d blocks, bounds %+v; the truth is %d", l.Total.Blocks, b, truth.LeakedBlocks)
	}
	certain := l.Total.Blocks - l.Uncertain.Blocks
	if certain == 0 || l.Uncertain.Blocks == 0 {
		t.Errorf("%d blocks uncertain of %d", l.Uncertain.Blocks, l.Total.Blocks)
	}
}

// TestCutAnywhere cuts the file at many places: every cut that opens gives a
// report that says so.
func TestCutAnywhere(t *testing.T) {
	events := legal(rand.New(rand.NewPCG(7, 7)), 0)
	var buf bytes.Buffer
	w, err := format.NewWriter(&buf, format.Header{Tool: "tcap"}, format.WriterOptions{BlockEvents: 10})
	if err != nil {
		t.Fatal(err)
	}
	events.write(w)
	if err := w.Close(format.Trailer{}); err != nil {
		t.Fatal(err)
	}
	opened := 0
	for n := range buf.Len() {
		r, err := format.NewReader(bytes.NewReader(buf.Bytes()[:n]), int64(n))
		if err != nil {
			continue
		}
		opened++
		for _, name := range []string{"leaks", "heap"} {
			res, width := runLine(t, r, name, nil, nil)
			if res.Completeness().Complete() {
				t.Errorf("cut at %d of %d: %s says the capture is complete", n, buf.Len(), name)
			}
			if err := Render(io.Discard, res, "text", width); err != nil {
				t.Errorf("cut at %d: %v", n, err)
			}
		}
		r.Close()
	}
	if opened < buf.Len()/2 {
		t.Errorf("%d of %d cuts opened", opened, buf.Len())
	}
}

// TestBadFlags checks that wrong values are refused when flags are parsed, so
// that they are usage errors, with what is possible.
func TestBadFlags(t *testing.T) {
	for _, c := range []struct{ analyzer, flag, value, want string }{
		{"leaks", "group-by", "color", "stack, size, thread, age, function, module, file, line"},
		{"leaks", "sort", "color", "bytes, blocks, age, first"},
		{"leaks", "stack-regex", "(", "missing closing"},
		{"heap", "cost", "love", "peak, live, leaked, allocated, allocs, temporary"},
		{"leaks", "cost", "peak", "leaked, allocated, allocs"},
	} {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		analyzerNamed(t, c.analyzer).New(fs)
		if err := fs.Set(c.flag, c.value); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--%s %s: error %v, want %q in it", c.flag, c.value, err, c.want)
		}
	}
	missing := analyzerNamed(t, "leaks")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	run := missing.New(flags)
	if err := flags.Set("suppressions", "/nonexistent/file"); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Run(context.Background(), inlinedCapture(t), format.Filter{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing suppressions: error %v", err)
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	analyzerNamed(t, "leaks").New(fs)
	for _, size := range []string{"", "x", "-1", "1X", "99999999999999999999", "17179869184G", "1 2"} {
		if err := fs.Set("min-size", size); err == nil {
			t.Errorf("--min-size %q is accepted", size)
		}
	}
	for text, want := range map[string]string{"0": "0", "4096": "4096", "4K": "4096", "64KiB": "65536", "1g": "1073741824", "3 MiB": ""} {
		err := fs.Set("min-size", text)
		if got := fs.Lookup("min-size").Value.String(); (want == "") != (err != nil) || err == nil && got != want {
			t.Errorf("--min-size %q: %s, %v, want %s", text, got, err, want)
		}
	}
}

// TestRenderUnknown checks that the error says what there is.
func TestRenderUnknown(t *testing.T) {
	res, _ := runLine(t, inlinedCapture(t), "leaks", nil, nil)
	err := Render(io.Discard, res, "xml", 80)
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "text, json, csv, pprof, folded") {
		t.Errorf("error %v", err)
	}
}

// TestCancelled checks that a pass ends when its context does.
func TestCancelled(t *testing.T) {
	file, _ := synthetic(t, synth.Options{Events: 200_000})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, name := range []string{"leaks", "heap"} {
		run := analyzerNamed(t, name).New(pflag.NewFlagSet("", pflag.ContinueOnError))
		if _, err := run.Run(ctx, open(t, file), format.Filter{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want %v", name, err, context.Canceled)
		}
	}
}

// TestJSONContract checks the keys that scripts rely on, by their path.
func TestJSONContract(t *testing.T) {
	res, _ := runLine(t, inlinedCapture(t), "leaks", nil, nil)
	var buf bytes.Buffer
	if err := Render(&buf, res, "json", 80); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Capture      map[string]any
		Completeness struct {
			LostEvents map[string]uint64 `json:"lost_events"`
			Truncated  *bool
		}
		Total        struct{ Bytes, Blocks *uint64 }
		UnknownFrees *uint64 `json:"unknown_frees"`
		Leaks        []struct {
			Bytes, Blocks *uint64
			Uncertain     *bool
			Stack         []struct {
				Function, File, Module *string
				Line                   *uint32
				Offset                 *uint64
			}
		}
	}
	if err := json.Unmarshal(buf.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Capture) < 8 || doc.Completeness.LostEvents == nil || doc.Completeness.Truncated == nil ||
		doc.Total.Bytes == nil || doc.Total.Blocks == nil || doc.UnknownFrees == nil || len(doc.Leaks) != 4 {
		t.Fatalf("keys are missing in\n%s", buf.Bytes())
	}
	l := doc.Leaks[0]
	f := l.Stack[1]
	if *l.Bytes != 1000 || *l.Blocks != 1 || l.Uncertain == nil || *f.Function != "inner" || *f.File != "/src/prog.cc" ||
		*f.Line != 31 || *f.Module != "/usr/bin/prog" || *f.Offset != 0x3000 {
		t.Errorf("first leak is not as it should be in\n%s", buf.Bytes())
	}
}

// TestJSONDocumented checks that docs/json.md names every key.
func TestJSONDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, val := range v {
				seen++
				if !regexp.MustCompile("[`.\"]" + key + "[`.\"]").Match(doc) {
					t.Errorf("docs/json.md does not say what %q is", key)
				}
				if key != "lost_events" {
					walk(val)
				}
			}
		case []any:
			for _, val := range v {
				walk(val)
			}
		}
	}
	for _, name := range []string{"processes", "suppressions", "mmap", "loss", "formats"} {
		s := tracetest.Read(t, "../testdata/scenarios/heap-"+name+".txtar")
		for _, args := range [][]string{{"leaks", "--mmap"}, {"leaks", "--group-by", "age"}, {"leaks", "--group-by", "thread"}, {"leaks", "--group-by", "size"}, {"leaks", "--group-by", "line"}, {"heap"}, {"heap", "--group-by", "file"}} {
			res, _ := runLine(t, s.Reader, args[0], args[1:], nil)
			text, err := json.Marshal(res.JSON())
			if err != nil {
				t.Fatal(err)
			}
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				t.Fatal(err)
			}
			walk(v)
		}
	}
	for _, args := range [][]string{nil, {"--group-by", "module"}} {
		text, err := json.Marshal(runDiff(t, tracetest.Read(t, "../testdata/scenarios/heap-diff.txtar"), args).JSON())
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		walk(v)
	}
	if seen < 500 {
		t.Errorf("only %d keys were looked at", seen)
	}
}
