package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// withKinds makes the package as it would be with another table of kinds.
func withKinds(t *testing.T, kinds []KindInfo) {
	t.Helper()
	oldKinds, oldShapes := Kinds, shapes
	Kinds, shapes = kinds, makeShapes(kinds)
	t.Cleanup(func() { Kinds, shapes = oldKinds, oldShapes })
}

// futureCapture is what a later minor version might write: a new kind that
// gives birth to heap blocks and has a field of an unknown type, one more
// field in a known kind, and a block of an unknown type.
func futureCapture(t *testing.T) (file []byte, want []Event, pool Kind) {
	t.Helper()
	current := Kinds
	pool = Kind(len(current) + 3)
	future := append([]KindInfo(nil), current...)
	for i := range 3 {
		future = append(future, KindInfo{Kind: pool - Kind(3-i), Name: "x.gap", Doc: "Never written."})
	}
	future = append(future, KindInfo{Kind: pool, Name: "heap.pool", Doc: "A pool gave out a block.", Since: 9, Fields: []Field{
		{Name: "addr", Type: TypeBlock, Hex: true},
		{Name: "size", Type: TypeUint, Unit: UnitBytes},
		{Name: "colour", Type: 200},
	}})
	free := future[KindFree]
	free.Fields = append(append([]Field(nil), free.Fields...), Field{Name: "reason", Type: TypeUint})
	future[KindFree] = free
	t.Run("write", func(t *testing.T) {
		withKinds(t, future)
		var buf bytes.Buffer
		w, err := NewWriter(&buf, Header{Tool: "tcap"}, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		task := w.Task(Task{Pid: 1, Tid: 1, Space: 1, Comm: "later"})
		for i := range uint64(300) {
			addr := 0x1000 + i%50*32
			e := Event{Kind: pool, Task: task, Time: int64(i * 1000), V: [MaxFields]uint64{addr, 32, i}}
			f := Event{Kind: KindFree, Task: task, Time: e.Time + 10, V: [MaxFields]uint64{addr, FnFree, 7}}
			for _, e := range []Event{e, f} {
				e.Seq = uint64(len(want))
				want = append(want, e)
				if err := w.Append(&e); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		w.sink.block(BlockInfo{Type: 99}, []byte("from the future"))
		if err := w.Close(Trailer{Reason: "exit"}); err != nil {
			t.Fatal(err)
		}
		file = buf.Bytes()
	})
	return file, want, pool
}

// setVersion writes another version into every block.
func setVersion(t *testing.T, file []byte, major, minor byte) []byte {
	t.Helper()
	file = bytes.Clone(file)
	n := 0
	for at := bytes.Index(file, []byte(syncMark)); at >= 0; n++ {
		h := file[at : at+headerSize]
		h[10], h[11] = major, minor
		binary.LittleEndian.PutUint32(h[60:], checksum(h[:60]))
		next := bytes.Index(file[at+8:], []byte(syncMark))
		if next < 0 {
			break
		}
		at += 8 + next
	}
	if n < 4 {
		t.Fatalf("found %d blocks", n)
	}
	return file
}

func TestFutureMinor(t *testing.T) {
	file, want, pool := futureCapture(t)
	file = setVersion(t, file, Major, 9)
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if major, minor := r.Version(); major != Major || minor != 9 {
		t.Errorf("version %d.%d, want %d.9", major, minor, Major)
	}
	if a, err := r.Amend(); err != nil {
		t.Error(err)
	} else {
		a.Redact()
		var out bytes.Buffer
		if _, err := a.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if _, minor := read(t, out.Bytes()).Version(); minor != 9 {
			t.Errorf("redacted, it is of version %d.%d", Major, minor)
		}
	}
	got, events := 0, r.Events(Filter{})
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		if !sameEvent(*e, want[got]) {
			t.Fatalf("event %d: got %+v, want %+v", got, *e, want[got])
		}
		got++
	}
	if got != len(want) || len(r.Damage()) != 0 {
		t.Fatalf("read %d of %d events, damage %v", got, len(want), r.Damage())
	}
	if k := r.KindInfo(pool); k.Name != "heap.pool" || k.Since != 9 || len(k.Fields) != 3 {
		t.Errorf("the new kind is known as %+v", k)
	}
	text := string(Format(nil, r, &want[0]))
	if !strings.HasSuffix(text, "heap.pool addr=0x1000 size=32 colour=0") {
		t.Errorf("text of the new kind: %s", text)
	}
	if text = string(Format(nil, r, &want[1])); !strings.HasSuffix(text, "fn=free reason=7") {
		t.Errorf("text of the new field: %s", text)
	}
	trailer, clean := r.Trailer()
	if !clean || trailer.Kinds[pool].Events != uint64(len(want)/2) {
		t.Errorf("trailer %+v (%v) does not count the new kind", trailer, clean)
	}
}

// TestFutureMinorWithoutSchema reads the same file when its schema is damaged.
func TestFutureMinorWithoutSchema(t *testing.T) {
	file, want, pool := futureCapture(t)
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range r.Blocks() {
		if b.Type == BlockSchema {
			file[b.Offset+headerSize] ^= 1
		}
	}
	r.Close()
	got, r, err := salvage(file)
	if err != nil || len(got) != len(want) || len(r.Damage()) != 1 {
		t.Fatalf("read %d of %d events, %v, damage %v", len(got), len(want), err, r.Damage())
	}
	if name := r.KindInfo(pool).Name; name != fmt.Sprintf("kind.%d", pool) {
		t.Errorf("the new kind is named %q", name)
	}
}

func TestFutureMajor(t *testing.T) {
	file, _ := randomCapture(t, 100, 50, 1)
	file = setVersion(t, file, Major+1, 0)
	for name, in := range map[string][]byte{"whole": file, "without index": file[:len(file)-1], "junk in front": append(make([]byte, 10), file...)} {
		if _, err := NewReader(bytes.NewReader(in), int64(len(in))); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: got %v, want ErrVersion", name, err)
		}
	}
}

// TestPastMinor reads what an earlier minor version wrote: a field is missing.
func TestPastMinor(t *testing.T) {
	past := append([]KindInfo(nil), Kinds...)
	free := past[KindFree]
	free.Fields = free.Fields[:1]
	past[KindFree] = free
	var file []byte
	t.Run("write", func(t *testing.T) {
		withKinds(t, past)
		var buf bytes.Buffer
		w, err := NewWriter(&buf, Header{}, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(&Event{Kind: KindFree, V: [MaxFields]uint64{16}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(Trailer{}); err != nil {
			t.Fatal(err)
		}
		file = buf.Bytes()
	})
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n := len(r.Kinds()[KindFree].Fields); n != len(Kinds[KindFree].Fields) {
		t.Errorf("heap.free has %d fields, want those of this version", n)
	}
	for e, err := range r.Events(Filter{}) {
		if err != nil || e.V[FreeAddr] != 16 || e.V[FreeFn] != 0 {
			t.Errorf("got %+v, %v", e, err)
		}
	}
}
