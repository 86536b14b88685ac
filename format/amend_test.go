package format

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// unnamed is a capture of many blocks whose frames have no names, and its frames.
func unnamed(t testing.TB) ([]byte, []FrameID) {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{Tool: "tcap", Host: "h", Extra: nil}, WriterOptions{BlockEvents: 50})
	if err != nil {
		t.Fatal(err)
	}
	m := w.Module(Module{Path: "/bin/p", BuildID: "ab"}.WithCode(0x401000, 0x1000))
	task := w.Task(Task{Pid: 1, Tid: 1, Space: 1, Comm: "p"})
	var frames []FrameID
	for i := range 300 {
		if i%30 == 0 {
			frames = append(frames, w.Frame(Frame{Module: m, Offset: uint64(0x1000 + i)}))
		}
		stack := w.Stack(0, frames[len(frames)-1])
		e := Event{Kind: KindAlloc, Task: task, Time: int64(1000 + i)}
		e.V[AllocAddr], e.V[AllocSize], e.V[AllocStack] = uint64(i+1)*64, 10, uint64(stack)
		if err := w.Append(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(Trailer{Reason: "exit"}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), frames
}

func read(t testing.TB, file []byte) *Reader {
	t.Helper()
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func events(t testing.TB, r *Reader) (out []Event) {
	t.Helper()
	for e, err := range r.Events(Filter{}) {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c := *e
		c.Data = bytes.Clone(e.Data)
		out = append(out, c)
	}
	return out
}

// amend names every frame, and a new one that no event has.
func amend(t testing.TB, file []byte, frames []FrameID, suffix string) []byte {
	t.Helper()
	a, err := read(t, file).Amend()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		a.Symbolize(f, []Symbol{{Function: "inner" + suffix, File: "/src/p.c", Line: 2}, {Function: "outer" + suffix, File: "/src/p.c", Line: 9}})
	}
	a.Stack(0, a.Frame(Frame{Module: a.Module(Module{Path: "/bin/new"}), Offset: 7}))
	var out bytes.Buffer
	n, err := a.WriteTo(&out)
	if err != nil || n != int64(out.Len()) {
		t.Fatalf("wrote %d bytes, says %d: %v", out.Len(), n, err)
	}
	return out.Bytes()
}

// TestAmend checks that names are added, that all else is as it was, byte for
// byte where it was, and that the file is valid, also when it is done again.
func TestAmend(t *testing.T) {
	file, frames := unnamed(t)
	before := read(t, file)
	want := events(t, before)
	for i, suffix := range []string{"", "2"} {
		file = amend(t, file, frames, suffix)
		r := read(t, file)
		if findings, err := r.Validate(); err != nil || len(findings) > 0 {
			t.Fatalf("pass %d: not valid: %v, %v", i, findings, err)
		}
		if got := events(t, r); !reflect.DeepEqual(got, want) {
			t.Fatalf("pass %d: events differ", i)
		}
		if got, old := r.TableSizes(), before.TableSizes(); got.Frames != old.Frames+1 || got.Stacks != old.Stacks+1 || got.Modules != old.Modules+1 {
			t.Errorf("pass %d: tables %+v, were %+v", i, got, old)
		}
		for _, f := range frames {
			got := r.Frames(f, nil)
			if len(got) != 2 || got[0].Function != "inner"+suffix || !got[0].Inlined || got[1].Function != "outer"+suffix || got[1].Line != 9 {
				t.Fatalf("pass %d: frame %d is %+v", i, f, got)
			}
		}
		if addr, ok := r.Module(1).Address(0x1234); !ok || addr != 0x401234 {
			t.Errorf("pass %d: the module's code is at %#x, %v", i, addr, ok)
		}
		if tr, ok := r.Trailer(); !ok || tr.Reason != "exit" || tr.Kinds[KindAlloc].Events != 300 {
			t.Errorf("pass %d: trailer %+v", i, tr)
		}
	}
	for _, b := range before.Blocks() {
		if b.Type == BlockEvents && !bytes.Equal(file[b.Offset:b.End()], before.raw(t, b)) {
			t.Fatalf("the block at offset %d changed", b.Offset)
		}
	}
}

func (r *Reader) raw(t testing.TB, b BlockInfo) []byte {
	t.Helper()
	raw := make([]byte, b.End()-b.Offset)
	if _, err := r.src.ReadAt(raw, b.Offset); err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestAmendCut amends a capture that was cut at every 7th byte: what can be
// read of it is as before, and has the names.
func TestAmendCut(t *testing.T) {
	file, frames := unnamed(t)
	whole := read(t, file)
	amended := 0
	for end := 1; end < len(file); end += 7 {
		cut := bytes.Clone(file[:end])
		r, err := NewReader(bytes.NewReader(cut), int64(len(cut)))
		if err != nil {
			continue
		}
		want, known := events(t, r), r.TableSizes().Frames
		_ = r.Close()
		out := amend(t, cut, frames[:known], "")
		got := read(t, out)
		if !reflect.DeepEqual(events(t, got), want) {
			t.Fatalf("cut at %d of %d: %d events, were %d", end, len(file), len(events(t, got)), len(want))
		}
		if !bytes.HasPrefix(out, cut) && !bytes.HasPrefix(file, out[:min(len(out), int(whole.Blocks()[1].End()))]) {
			t.Fatalf("cut at %d: bytes changed", end)
		}
		if _, clean := got.Trailer(); clean {
			t.Fatalf("cut at %d: the end is clean now", end)
		}
		for _, f := range frames[:known] {
			if name := got.Frame(f).Function; name != "outer" {
				t.Fatalf("cut at %d: frame %d is %q", end, f, name)
			}
		}
		amended++
	}
	if amended < 100 {
		t.Errorf("only %d cuts could be amended", amended)
	}
}

// TestAmendDamaged wants no names in a capture whose tables have a hole, and
// all of them where only events are damaged.
func TestAmendDamaged(t *testing.T) {
	file, frames := unnamed(t)
	testAmendDamaged(t, file, frames)
	r := read(t, file)
	for _, b := range r.Blocks() {
		if b.Type == BlockCopy { // from here on names are known once
			testAmendDamaged(t, file[:b.Offset], frames)
		}
	}
}

func hasCopy(r *Reader) bool {
	return slices.ContainsFunc(r.Blocks(), func(b BlockInfo) bool { return b.Type == BlockCopy })
}

func testAmendDamaged(t *testing.T, file []byte, frames []FrameID) {
	r := read(t, file)
	for _, b := range r.Blocks() {
		bad := bytes.Clone(file)
		bad[b.End()-1] ^= 1
		d := read(t, bad)
		events(t, d)
		a, err := d.Amend()
		switch {
		case b.Type == BlockTables && !hasCopy(r):
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "tables") {
				t.Errorf("with a damaged %v block: error %v", b.Type, err)
			}
		case err != nil:
			t.Errorf("with a damaged %v block: %v", b.Type, err)
		default:
			a.Symbolize(frames[0], []Symbol{{Function: "f"}})
			var out bytes.Buffer
			if _, err := a.WriteTo(&out); err != nil {
				t.Errorf("with a damaged %v block: %v", b.Type, err)
			} else if got := read(t, out.Bytes()); got.Frame(frames[0]).Function != "f" || len(events(t, got)) != len(events(t, d)) {
				t.Errorf("with a damaged %v block: %q, %d events of %d", b.Type, got.Frame(frames[0]).Function, len(events(t, got)), len(events(t, d)))
			}
		}
	}
}

// TestRowsFarApart reads tables whose second row has a huge number: nothing may
// count up to it, and no number is left for names.
func TestRowsFarApart(t *testing.T) {
	file, _ := unnamed(t)
	r := read(t, file)
	body := []byte{1, 2, 0, 0, 0, 0}
	if err := r.tables.load(appendSection(nil, tableFrames, maxRows-1, 1, body)); err != nil {
		t.Fatal(err)
	}
	if n := len(slices.Collect(r.FrameIDs())); n != 11 {
		t.Errorf("%d frames, want 11", n)
	}
	if n := len(slices.Collect(r.ModuleIDs())); n != 1 {
		t.Errorf("%d modules, want 1", n)
	}
	if _, err := r.Amend(); !errors.Is(err, ErrLimit) {
		t.Errorf("amend: error %v", err)
	}
}
