package format

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// randomCapture writes n events of every kind and returns them as a reader
// must give them back.
func randomCapture(t testing.TB, n, blockEvents int, seed uint64) (file []byte, events []Event) {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{Tool: "tcap", ToolVersion: "test", Start: ClockAnchor{1000, 1700000000e9}}, WriterOptions{BlockEvents: blockEvents, Level: zstd.SpeedFastest})
	if err != nil {
		t.Fatal(err)
	}
	events = randomEvents(w, n, seed)
	for i := range events {
		if err := w.Append(&events[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(Trailer{Reason: "exit"}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), events
}

// randomEvents makes events of every kind: heap kinds mostly consistent, with
// planted lies; the fields of others anything.
func randomEvents(w *Writer, n int, seed uint64) []Event {
	rng := rand.New(rand.NewPCG(seed, 1))
	var tasks []TaskID
	for i := range uint32(5) {
		tasks = append(tasks, w.Task(Task{Pid: 100 + i/2, Tid: 100 + i, Space: i / 2, Comm: fmt.Sprintf("task-%d", i), Start: int64(i)}))
	}
	var live []uint64
	now := int64(5e9)
	events := make([]Event, n)
	for i := range events {
		e := &events[i]
		now += rng.Int64N(3000) - 100
		e.Kind = Kind(1 + rng.IntN(len(Kinds)-1))
		if rng.IntN(4) > 0 {
			e.Kind = Kind(1 + rng.IntN(3))
		}
		e.Time, e.Task, e.Seq = now, tasks[rng.IntN(len(tasks))], uint64(i)
		for f, field := range Kinds[e.Kind].Fields {
			e.V[f] = randomValue(w, rng, field, &live)
		}
	}
	return events
}

func randomValue(w *Writer, rng *rand.Rand, f Field, live *[]uint64) uint64 {
	switch f.Type {
	case TypeBlock:
		a := 0x5500_0000_0000 + rng.Uint64N(1<<12)*16
		*live = append(*live, a)
		return a
	case TypeFreed:
		if len(*live) == 0 || rng.IntN(10) == 0 {
			return rng.Uint64()
		}
		i := rng.IntN(len(*live))
		a := (*live)[i]
		if rng.IntN(10) > 0 {
			*live = append((*live)[:i], (*live)[i+1:]...)
		}
		return a
	case TypeEnum:
		return rng.Uint64N(uint64(len(f.Enum)))
	case TypeString:
		return uint64(w.String(fmt.Sprintf("string %d", rng.IntN(50))))
	case TypeModule:
		return uint64(w.Module(Module{Path: fmt.Sprintf("/lib/%d.so", rng.IntN(5)), BuildID: "ab"}))
	case TypeStack:
		s := StackID(0)
		for range rng.IntN(6) {
			s = w.Stack(s, w.Frame(Frame{Module: 1, Offset: rng.Uint64N(8), Function: fmt.Sprintf("f%d", rng.IntN(8)), Line: 7}))
		}
		return uint64(s)
	}
	return rng.Uint64() >> rng.IntN(64)
}

func readAll(t testing.TB, file []byte) []Event {
	t.Helper()
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []Event
	for e, err := range r.Events(Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, *e)
	}
	return got
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 99, 100, 101, 5000} {
		file, want := randomCapture(t, n, 100, uint64(n))
		got := readAll(t, file)
		if len(got) != len(want) {
			t.Fatalf("%d events: read %d", n, len(got))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("event %d of %d:\n got %+v\nwant %+v", i, n, got[i], want[i])
			}
		}
	}
}
