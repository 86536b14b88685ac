package format

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const planted = "correct horse battery staple"

// secretCapture has the planted secret wherever a secret can be.
func secretCapture(t testing.TB) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, Header{
		Tool: "tcap", Host: planted, BootID: planted, Command: []string{"tcap", "record", "--", "prog", planted},
		Targets: []string{"prog " + planted, "pid 7 (prog)"}, Extra: map[string]json.RawMessage{"note": json.RawMessage(`"` + planted + `"`)},
	}, WriterOptions{BlockEvents: 16})
	if err != nil {
		t.Fatal(err)
	}
	p := Probe{Name: "q", Declaration: Declaration{Args: []Argument{{Name: "n", Type: ArgU32}, {Name: "s", Type: ArgStr}, {Name: "a", Type: ArgIPAddr}, {Name: "b", Type: ArgBuf}}}}
	id, err := w.Probe(p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		stack := w.NewStack(w.Frame(Frame{Function: "leaf"}))
		w.EndStack(stack, stack, EndWaiting)
		if err := w.Snapshot(&Snapshot{Stack: stack, Memory: []byte(planted)}); err != nil {
			t.Fatal(err)
		}
		e := Event{Kind: KindAlloc, Time: int64(2 * i), V: [MaxFields]uint64{uint64(16 * (i + 1)), 8, uint64(stack), FnMalloc}}
		if err := w.Append(&e); err != nil {
			t.Fatal(err)
		}
		e = Event{Kind: KindCall, Time: int64(2*i + 1)}
		e.V[CallProbe] = uint64(id)
		args := []Arg{{Num: uint64(i)}, {Text: []byte(planted), Len: 100}, {Text: []byte{10, 0, 0, 1}, Len: 4}, {Text: []byte(planted), Len: len(planted), Fault: i%3 == 0}}
		e.Data, e.V[CallFaults] = AppendArgs(nil, &p, args)
		e.V[CallArgs] = uint64(len(e.Data))
		if err := w.Append(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(Trailer{StackEnds: map[string]uint64{"waiting": 50}}); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// plain is all that a capture says, decompressed.
func plain(t testing.TB, r *Reader) []byte {
	t.Helper()
	var out []byte
	var bufs buffers
	for i := range r.blocks {
		payload, err := r.payload.read(&r.blocks[i], &bufs)
		if err != nil {
			continue
		}
		out = append(out, payload...)
	}
	return out
}

func redact(t testing.TB, file []byte) (*Reader, *Redacted) {
	t.Helper()
	a, err := read(t, file).Amend()
	if err != nil {
		t.Fatal(err)
	}
	what := a.Redact()
	if err := a.CountEnds(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := a.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return read(t, out.Bytes()), what
}

// TestRedact: no byte of a secret is left, and everything else is.
func TestRedact(t *testing.T) {
	file := secretCapture(t)
	before := read(t, file)
	if n := bytes.Count(plain(t, before), []byte(planted)); n < 100 {
		t.Fatalf("the secret was planted %d times", n)
	}
	r, what := redact(t, file)
	if findings, err := r.Validate(); err != nil || len(findings) > 0 {
		t.Fatalf("not valid: %v, %v", findings, err)
	}
	if all := plain(t, r); bytes.Contains(all, []byte(planted)) || bytes.Contains(all, []byte(strings.Fields(planted)[1])) {
		t.Error("the secret is still there")
	}
	if what.Texts != 50+33 || what.TextBytes != what.Texts*uint64(len(planted)) || what.SnapshotBytes < 50*int64(len(planted)) || what.Left != 0 {
		t.Errorf("it says that it took out %+v", what)
	}
	want, got := events(t, before), events(t, r)
	if len(got) != len(want) {
		t.Fatalf("%d events, were %d", len(got), len(want))
	}
	for i := range want {
		if want[i].Kind == KindCall {
			checkRedactedCall(t, before, r, &want[i], &got[i])
			continue
		}
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("event %d: %+v, was %+v", i, got[i], want[i])
		}
	}
	if tr, _ := r.Trailer(); tr.StackEnds["dropped"] != 50 || len(tr.StackEnds) != 1 {
		t.Errorf("stack ends %v", tr.StackEnds)
	}
	if h := r.Header(); h.Tool != "tcap" || h.Command[0] != "tcap" || h.Targets[0] != "prog "+redactedWord || h.Targets[1] != "pid 7 (prog)" {
		t.Errorf("header %+v", h)
	}
}

func checkRedactedCall(t *testing.T, before, after *Reader, old, e *Event) {
	t.Helper()
	var was, is Call
	if err := before.Call(old, &was); err != nil {
		t.Fatal(err)
	}
	if err := after.Call(e, &is); err != nil {
		t.Fatal(err)
	}
	for i := range was.Args {
		a, b := was.Args[i], is.Args[i]
		if i == 1 || i == 3 {
			a.Text, b.Text = nil, bytes.Clone(b.Text)
			if len(b.Text) > 0 {
				t.Fatalf("text %q is left", b.Text)
			}
			b.Text = nil
		}
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("argument %d is %+v, was %+v", i, b, a)
		}
	}
	if e.Time != old.Time || e.V[CallFaults] != old.V[CallFaults] {
		t.Fatalf("call %+v, was %+v", e, old)
	}
}

// TestRedactDamaged redacts captures that were cut, or flipped, anywhere: the secret is gone
// all the same.
func TestRedactDamaged(t *testing.T) {
	file := secretCapture(t)
	for n := 1; n < len(file); n += 11 {
		flipped := bytes.Clone(file)
		flipped[n] ^= 1
		for _, bad := range [][]byte{file[:n], flipped} {
			r, err := NewReader(bytes.NewReader(bad), int64(len(bad)))
			if err != nil {
				continue
			}
			a, err := r.Amend()
			if err != nil {
				r.Close()
				continue // a hole in the tables
			}
			a.Redact()
			var out bytes.Buffer
			if _, err := a.WriteTo(&out); err != nil {
				t.Fatalf("byte %d: %v", n, err)
			}
			if all := plain(t, read(t, out.Bytes())); bytes.Contains(all, []byte(planted)) || bytes.Contains(out.Bytes(), []byte(planted)) {
				t.Fatalf("byte %d: the secret is still there", n)
			}
			r.Close()
		}
	}
}

// TestRedactLost: events that are lost in a damaged file are missing from the redacted
// one, too, which says so: of a block that cannot be read, and of one that is not even known
// since its header and the index are damaged.
func TestRedactLost(t *testing.T) {
	file := secretCapture(t)
	var hit, index BlockInfo
	for _, b := range read(t, file).Blocks() {
		switch b.Type {
		case BlockEvents:
			if hit.Events == 0 {
				hit = b
			}
		case BlockIndex:
			index = b
		}
	}
	payload, header := bytes.Clone(file), bytes.Clone(file)
	payload[hit.End()-1] ^= 1
	header[hit.Offset+20] ^= 1
	header[index.End()-1] ^= 1
	for name, damaged := range map[string][]byte{"payload": payload, "header": header} {
		before := read(t, damaged)
		lost := len(events(t, read(t, file))) - len(events(t, before))
		if lost != hit.Events {
			t.Fatalf("%s: %d events lost, want %d", name, lost, hit.Events)
		}
		r, what := redact(t, damaged)
		d := r.Damage()
		if len(d) != 1 || d[0].Events != int64(lost) || d[0].To < hit.LastTime || d[0].From > hit.FirstTime || what.Left != 1 {
			t.Errorf("%s: damage %+v, left out %d", name, d, what.Left)
		}
		if n := len(events(t, r)); n != len(events(t, before)) {
			t.Errorf("%s: %d events, want %d", name, n, len(events(t, before)))
		}
		if again, _ := redact(t, out(t, r)); len(again.Damage()) != 1 || again.Damage()[0].Events != int64(lost) {
			t.Errorf("%s: redacted once more: damage %+v", name, again.Damage())
		}
	}
}

// out are the bytes of a capture.
func out(t *testing.T, r *Reader) []byte {
	t.Helper()
	file := make([]byte, r.Size())
	if _, err := r.src.ReadAt(file, 0); err != nil {
		t.Fatal(err)
	}
	return file
}
