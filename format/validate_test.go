package format

import (
	"bytes"
	"strings"
	"testing"
)

func validate(t *testing.T, file []byte) []Finding {
	t.Helper()
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	found, err := r.Validate()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

const soundTrace = `
0.000001 10/10 a heap.alloc addr=0x1000 size=32 stack=f;main fn=malloc
0.000002 10/10 a heap.alloc addr=0x2000 size=32 stack=g;main fn=malloc
0.000003 10/10 a heap.free addr=0x1000 fn=free
0.000004 10/11 b heap.alloc addr=0x2000 size=64 fn=malloc
0.000005 10/10 a heap.realloc old=0x2000 addr=0x3000 size=64 fn=realloc duration=2500
0.000006 10/11 b heap.free addr=0x2000 fn=free
0.000007 10/10 a heap.free addr=0x9000 fn=free
0.000008 10/10 a proc.exec path=/bin/true space=11
0.000009 10/10@11 a tcp.connect conn=1 raddr=::1 rport=80 family=ipv6
`

// writeTrace writes soundTrace; meddle may tamper before the end.
func writeTrace(t *testing.T, meddle func(w *Writer)) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Parse(w, strings.NewReader(soundTrace)); err != nil {
		t.Fatal(err)
	}
	if meddle != nil {
		meddle(w)
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestValidateSound(t *testing.T) {
	if found := validate(t, writeTrace(t, nil)); len(found) != 0 {
		t.Errorf("a sound capture: %v", found)
	}
}

func TestValidateFinds(t *testing.T) {
	appendAll := func(events ...Event) func(*Writer) {
		return func(w *Writer) {
			for _, e := range events {
				e.Task = w.Task(Task{Pid: 10, Tid: 10, Space: 11, Comm: "a"})
				if e.Time == 0 {
					e.Time = 1e6
				}
				if err := w.Append(&e); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for want, meddle := range map[string]func(w *Writer){
		"before the event of the same task": appendAll(Event{Kind: KindFree, Time: 5}),
		"field fn has value 99":             appendAll(Event{Kind: KindFree, V: [MaxFields]uint64{0, 99}}),
		"field path has value 1000":         appendAll(Event{Kind: KindExec, V: [MaxFields]uint64{1000}}),
		"field stack has value 4294967297":  appendAll(Event{Kind: KindAlloc, V: [MaxFields]uint64{0, 0, 1<<32 + 1}}),
		"field module has value 3":          appendAll(Event{Kind: KindMapping, V: [MaxFields]uint64{0, 0, 0, 3}}),
		"refers to frame 77":                func(w *Writer) { w.Stack(0, 77) },
		"has parent 78":                     func(w *Writer) { w.Stack(78, 1) },
		"refers to module 5":                func(w *Writer) { w.Frame(Frame{Module: 5}) },
		"symbol 1 refers to frame 9":        func(w *Writer) { w.Symbolize(9, []Symbol{{Function: "x"}}) },
		"has sequence number":               func(w *Writer) { w.sink.next++ },
		"has 7 events":                      func(w *Writer) { w.sink.block(BlockInfo{Type: BlockSchema, Events: 7}, []byte("[]")) },
		"unknown type":                      func(w *Writer) { w.sink.block(BlockInfo{Type: 70}, nil) },
		"a second time": func(w *Writer) {
			col := w.cur.of[KindFree].fields[FreeAddr]
			col[len(col)-1] = 3 // the last free now ends the block that the first did
			w.cur.of[KindFree].escapes = nil
		},
		"not in the index": func(w *Writer) { w.sink.index[0].FirstTime = 5 },
		"counts":           func(w *Writer) { w.sink.tally[KindComm].Events = 3 },
	} {
		found := validate(t, writeTrace(t, meddle))
		if !strings.Contains(strings.Join(texts(found), "\n"), want) {
			t.Errorf("want a finding with %q, got %v", want, found)
		}
	}
}

func TestValidateFindsHolesInTables(t *testing.T) {
	file := writeTrace(t, func(w *Writer) {
		w.rows[tableStrings].first += 2
		w.rows[tableStrings].next += 2
	})
	second := bytes.Index(file[8:], []byte("\x89TCAP\r\n\x1a\x01")) + 8 // the copy of the header
	found := texts(validate(t, file[:second]))
	if !strings.Contains(strings.Join(found, "\n"), "table of strings has no rows 1 to 2") {
		t.Errorf("got %v", found)
	}
}

func texts(found []Finding) (s []string) {
	for _, f := range found {
		s = append(s, f.String())
	}
	return s
}

func TestValidateDamage(t *testing.T) {
	file := writeTrace(t, nil)
	if found := texts(validate(t, file[:len(file)-3])); !strings.Contains(strings.Join(found, "\n"), "is missing: the recorder was killed") {
		t.Errorf("cut: %v", found)
	}
	for n := 0; n < len(file); n += stride {
		damaged := bytes.Clone(file)
		damaged[n] ^= 4
		if found := validate(t, damaged); len(found) == 0 {
			t.Fatalf("byte %d flipped: nothing found", n)
		}
	}
}
