package format

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
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
	randomSnapshots(t, w, 3, seed)
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
	probes := randomProbes(w)
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
		if e.Kind == KindCall {
			randomCall(e, rng, probes)
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
	case TypeProbe, TypeBytes: // see randomCall
		return 0
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

// randomProbes declares probes that have arguments of every type.
func randomProbes(w *Writer) []Probe {
	var probes []Probe
	for i := range 3 {
		p := Probe{Name: fmt.Sprintf("probe.%d", i), Pack: "test"}
		for _, t := range slices.Sorted(maps.Keys(argClasses))[5*i:] {
			p.Args = append(p.Args, Argument{Name: "a_" + string(t), Type: t})
		}
		if id, err := w.Probe(p); err != nil || int(id) != i+1 {
			panic(fmt.Sprint("probe ", id, err))
		}
		probes = append(probes, p)
	}
	return probes
}

// randomCall makes e a call with arguments that are now and then cut or at fault.
func randomCall(e *Event, rng *rand.Rand, probes []Probe) {
	i := rng.IntN(len(probes))
	args := make([]Arg, len(probes[i].Args))
	for j := range args {
		a := &args[j]
		switch t := probes[i].Args[j].Type; {
		case rng.IntN(20) == 0:
			a.Fault = true
		case t.IsText():
			a.Text = make([]byte, rng.IntN(40))
			for k := range a.Text {
				a.Text[k] = byte(rng.Uint32())
			}
			a.Len = len(a.Text) + rng.IntN(2)*rng.IntN(500)
		default:
			a.Num = rng.Uint64() >> rng.IntN(64)
		}
	}
	e.V[CallProbe] = uint64(i + 1)
	e.Data, e.V[CallFaults] = AppendArgs(nil, &probes[i], args)
	e.V[CallArgs] = uint64(len(e.Data))
	e.V[CallDuration] %= 1000
}

func sameEvent(a, b Event) bool {
	same := bytes.Equal(a.Data, b.Data)
	a.Data, b.Data = nil, nil
	return same && reflect.DeepEqual(a, b)
}

// keepEvent returns a copy that outlives the iteration.
func keepEvent(e *Event) Event {
	out := *e
	out.Data = bytes.Clone(e.Data)
	return out
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
		got = append(got, keepEvent(e))
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
			if !sameEvent(got[i], want[i]) {
				t.Fatalf("event %d of %d:\n got %+v\nwant %+v", i, n, got[i], want[i])
			}
		}
	}
}
