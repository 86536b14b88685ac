package format

import (
	"bytes"
	"testing"
)

func TestTotals(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{}, WriterOptions{BlockEvents: 100})
	if err != nil {
		t.Fatal(err)
	}
	events := randomEvents(w, 5000, 7)
	want := map[Kind]KindTotals{}
	for i := range events {
		e := &events[i]
		if e.Kind == KindLoss {
			e.V[LossKind], e.V[LossCount] = uint64(i%3)*200, uint64(i%5) // 0, 200 (no kind), 400 (no kind)
			if i%2 == 0 {
				e.V[LossKind] = uint64(KindFree)
			}
			of := want[lossKind(e)]
			of.Lost += e.V[LossCount]
			want[lossKind(e)] = of
		}
		n := want[e.Kind]
		n.Events++
		want[e.Kind] = n
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
	trailer, ok := r.Trailer()
	if !ok || len(trailer.Kinds) != len(want) {
		t.Fatalf("trailer (%v) has %d kinds, want %d", ok, len(trailer.Kinds), len(want))
	}
	var stored, shared int64
	for _, b := range r.Blocks() {
		if b.Type == BlockEvents {
			stored += b.End() - b.Offset
		}
	}
	for k, w := range want {
		got := trailer.Kinds[k]
		shared += int64(got.Bytes)
		if got.Events != w.Events || got.Lost != w.Lost || (got.Bytes == 0) != (w.Events == 0) {
			t.Errorf("%s: %+v, want %+v and bytes", r.KindInfo(k).Name, got, w)
		}
	}
	if want[KindInvalid].Lost == 0 || want[KindFree].Lost == 0 {
		t.Error("the test lost nothing")
	}
	if d := shared - stored; d < -int64(len(r.Blocks())*len(Kinds)) || d > int64(len(r.Blocks())*len(Kinds)) {
		t.Errorf("the kinds share %d bytes, the blocks of events have %d", shared, stored)
	}
	if s := r.TableSizes(); s.Tasks != 5 || s.Modules == 0 || s.Modules > 5 || s.Strings == 0 || s.Stacks == 0 || s.Frames == 0 {
		t.Errorf("table sizes %+v", s)
	}
}
