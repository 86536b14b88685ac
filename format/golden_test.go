package format

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var update = flag.Bool("update", false, "rewrite golden files")

// The files in testdata/ are the first capture of each format version: v1 of
// 1.0, v1.1 of 1.1, which brought calls. A capture is never written again: every
// later version must read it as it was read when it was made. (-update makes it
// only if it is not there; the text is rewritten when the text form changes.)
func TestGoldenCapture(t *testing.T) {
	for _, name := range []string{"v1", "v1.1"} {
		t.Run(name, func(t *testing.T) { goldenCaptureReads(t, "testdata/"+name+".tcap", "testdata/"+name+".txt") })
	}
}

func goldenCaptureReads(t *testing.T, goldenCapture, goldenText string) {
	file, err := os.ReadFile(goldenCapture)
	if os.IsNotExist(err) && *update {
		file = makeGolden(t)
		if err := os.WriteFile(goldenCapture, file, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if found, err := r.Validate(); err != nil || len(found) != 0 {
		t.Errorf("findings %v, %v", found, err)
	}
	text := formatText(t, r)
	if *update {
		if err := os.WriteFile(goldenText, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenText)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("the capture of version 1 reads differently now:\n%s", text)
	}
	h, trailer, frames := r.Header(), Trailer{}, []Frame(nil)
	trailer, ok := r.Trailer()
	if h.Host != "golden" || h.Start != (ClockAnchor{1e12, 1767225600e9}) || !ok || trailer.Reason != "exit" || trailer.Lost != 3 {
		t.Errorf("header %+v, trailer %+v", h, trailer)
	}
	if frames = r.Stack(1, nil); len(frames) != 2 || !frames[0].Inlined || frames[0].Function != "inner" || frames[1].Line != 42 ||
		r.Module(frames[1].Module) != (Module{Path: "/usr/bin/golden", BuildID: "c0ffee"}) {
		t.Errorf("stack 1 is %+v", frames)
	}
}

// makeGolden writes an event or more of every kind, in several blocks.
func makeGolden(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{
		Tool: "tcap", ToolVersion: "1", Host: "golden", Kernel: "6.18.0", Arch: "amd64", CPUs: 2, PageSize: 4096,
		Command: []string{"tcap", "record"}, Start: ClockAnchor{1e12, 1767225600e9},
	}, WriterOptions{BlockEvents: 40, Level: zstd.SpeedDefault})
	if err != nil {
		t.Fatal(err)
	}
	m := w.Module(Module{Path: "/usr/bin/golden", BuildID: "c0ffee"})
	f := w.Frame(Frame{Module: m, Offset: 0x1234})
	w.Stack(0, f)
	w.Symbolize(f, []Symbol{{Function: "inner", File: "g.c", Line: 7}, {Function: "main", File: "g.c", Line: 42}})
	events := randomEvents(w, 150, 2026)
	last := map[TaskID]int64{}
	for i := range events {
		e := &events[i]
		if e.Kind == KindRealloc {
			e.V[ReallocDuration] %= 500 // else it would begin before time did
		}
		e.Time = max(e.Time+1e12, last[e.Task])
		last[e.Task] = e.Time
		if err := w.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(Trailer{End: ClockAnchor{1e12 + 9e9, 1767225609e9}, Reason: "exit", Lost: 3}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
