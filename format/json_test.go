package format

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestJSON(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{Start: ClockAnchor{1000, 1_767_225_600_000_000_000}}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	task := w.Task(Task{Pid: 100, Tid: 101, Space: 1, Comm: "a\x1b\"\\\x7f\u0085\xffé<"})
	frame := w.Frame(Frame{Module: w.Module(Module{Path: "/lib/x.so"}), Offset: 0x2a, Function: "f", File: "f.c", Line: 3})
	stack := w.Stack(w.Stack(0, w.Frame(Frame{Offset: 1<<64 - 1})), frame)
	alloc := Event{Kind: KindAlloc, Task: task, Time: 1500}
	alloc.V = [MaxFields]uint64{0xffff_ffff_ffff_fff0, 32, uint64(stack), FnCalloc}
	loss := Event{Kind: KindLoss, Time: 2000}
	loss.V = [MaxFields]uint64{uint64(KindFree), 1<<64 - 1, 7, 1200, 1900}
	for _, e := range []*Event{&alloc, &loss} {
		if err := w.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := []string{
		`{"seq":0,"time_ns":500,"wall":"2026-01-01T00:00:00.0000005Z","pid":100,"tid":101,"comm":"a\u001b\"\\\u007f\u0085` + "\ufffdé<" + `",` +
			`"kind":"heap.alloc","addr":"0xfffffffffffffff0","size_bytes":32,"stack":[` +
			`{"function":"f","file":"f.c","line":3,"module":"/lib/x.so","offset":42},` +
			`{"function":"","file":"","line":0,"module":"","offset":18446744073709551615}],"fn":"calloc"}`,
		`{"seq":1,"time_ns":1000,"wall":"2026-01-01T00:00:00.000001Z","pid":0,"tid":0,"comm":"",` +
			`"kind":"meta.loss","loss_kind":"heap.free","cpu":-1,"count":7,"from_ns":200,"to_ns":900}`,
	}
	enc := NewJSONEncoder(r)
	n := 0
	for e, err := range r.Events(Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second from memory
			if got := string(enc.Append(nil, e)); got != want[n] {
				t.Errorf("event %d:\n got %s\nwant %s", n, got, want[n])
			}
		}
		n++
	}
	if n != len(want) {
		t.Errorf("%d events, want %d", n, len(want))
	}
}

// Every object is valid JSON with every field of its kind and no key twice.
func TestJSONOfEveryKind(t *testing.T) {
	file, events := randomCapture(t, 5000, 1000, 3)
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	enc, seen := NewJSONEncoder(r), map[Kind]bool{}
	for i := range events {
		e := &events[i]
		line := enc.Append(nil, e)
		var obj map[string]any
		if err := json.Unmarshal(line, &obj); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if want := 7 + len(Kinds[e.Kind].Fields); len(obj) != want {
			t.Errorf("%s: %d keys, want %d", line, len(obj), want)
		}
		if bytes.ContainsRune(line, '\n') {
			t.Errorf("%s: more than one line", line)
		}
		seen[e.Kind] = true
	}
	if len(seen) != len(Kinds)-1 {
		t.Errorf("saw %d kinds of %d", len(seen), len(Kinds)-1)
	}
}

func FuzzJSONString(f *testing.F) {
	f.Add("plain")
	f.Add("\x00\x1f\"\\/\x7f\u0080\u2028\xf0\x28")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendJSONString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(s)); got != want { // each byte that is no UTF-8 is U+FFFD
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	})
}
