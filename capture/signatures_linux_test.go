package capture

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/snapshot"
	"github.com/tcap-dev/tcap/format"
)

// A sender is the kernel's side of signatures: what it has sent and not
// forgotten, and the steps that it was taught.
type sender struct {
	sent  map[uint64]bool
	edges map[bpf.RawEdge]uint32
	rows  map[uint32]*bpf.RawStepRow
}

func (s *sender) Delete(key any) error                     { delete(s.sent, key.(uint64)); return nil }
func (s *sender) PutRow(n uint32, r *bpf.RawStepRow) error { s.rows[n] = r; return nil }
func (s *sender) PutEdge(e bpf.RawEdge, row uint32) error  { s.edges[e] = row; return nil }
func (s *sender) DeleteEdge(e bpf.RawEdge) error           { delete(s.edges, e); return nil }

// TestSignaturesAge sends ever new stacks, and some that come always: no more is held of
// them than two generations, each event has its stack, and those that stay
// in use keep their row.
func TestSignaturesAge(t *testing.T) {
	var file bytes.Buffer
	w, err := format.NewWriter(&file, format.Header{}, format.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kernel := &sender{sent: map[uint64]bool{}, edges: map[bpf.RawEdge]uint32{}, rows: map[uint32]*bpf.RawStepRow{}}
	names := newSymbolizer(nil)
	ss := &snapshots{
		frames: frames{w: w, names: names, asked: map[format.FrameID]bool{}}, sent: kernel,
		signatures: newSignatures(), told: map[format.StackID]format.StackEnd{}, unwinding: snapshot.Start(kernel, nil, 0),
	}
	const limit, rounds, always = 500, 40, 20
	ss.limit = limit
	in := &space{mappings: []mapping{{start: 0x1000, end: 1 << 40, module: &module{code: &snapshot.File{}}}}}
	in.mappings[0].module.code.Owner = in.mappings[0].module
	stack := make([]byte, 64)
	var wrote uint64
	var events uint64
	rowOf := map[uint64]format.StackID{}
	hit := func(id uint64) {
		wrote += 64
		if !kernel.sent[id] {
			kernel.sent[id] = true
			if err := ss.add(snapshot.Snapshot{ID: id, SP: 0x7ff000000000, Caller: 0x2000 + id, Code: 1, Stack: stack}, in); err != nil {
				t.Fatal(err)
			}
		}
		events++
		row := ss.row(id)
		if row == 0 {
			t.Fatalf("event %d has no stack", events)
		}
		if id > always {
			return
		}
		if s, _ := ss.find(id); s.end != format.EndUnknown {
			if was := rowOf[id]; was != 0 && was != s.row {
				t.Fatalf("stack %d, which is in use, has row %d, had %d", id, s.row, was)
			}
			rowOf[id] = s.row
		}
	}
	held := 0
	for n := uint64(always); ss.begun < rounds; {
		for range limit / 4 {
			n++
			hit(n)
			hit(1 + n%always)
		}
		for unknown := true; unknown; {
			runtime.Gosched()
			ss.collect()
			unknown = false
			for _, s := range ss.all() {
				unknown = unknown || s.end == format.EndUnknown
			}
		}
		ss.age(wrote, wrote)
		held = max(held, len(ss.young)+len(ss.old))
		if len(ss.told) > 4*limit {
			t.Fatalf("%d ends are held", len(ss.told))
		}
	}
	t.Logf("%d signatures, at most %d held at once", ss.seen(), held)
	if held > 4*limit || ss.seen() < 3*uint64(held) {
		t.Errorf("%d of %d signatures were held at once, the limit of a generation is %d", held, ss.seen(), limit)
	}
	if err := ss.finish(); err != nil {
		t.Fatal(err)
	}
	names.finish(w)
	if err := w.Close(format.Trailer{}); err != nil {
		t.Fatal(err)
	}
	var told uint64
	for _, n := range ss.ended {
		told += n
	}
	if told != events || ss.lost != 0 || ss.ended[format.EndUnknown]+ss.ended[format.EndDropped] != 0 {
		t.Errorf("%d events, ends of %d: %v; %d lost", events, told, ss.ended, ss.lost)
	}
	if len(rowOf) != always {
		t.Errorf("%d stacks were always in use, want %d", len(rowOf), always)
	}
}

// TestSignaturesWait: a generation is not given up before the kernel has forgotten it,
// and no event that it has sent waits in the ring.
func TestSignaturesWait(t *testing.T) {
	kernel := &sender{sent: map[uint64]bool{}}
	var file bytes.Buffer
	w, err := format.NewWriter(&file, format.Header{}, format.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ss := &snapshots{frames: frames{w: w}, sent: kernel, signatures: newSignatures()}
	ss.limit = 1
	ss.young[7] = &signature{row: 1, end: format.EndComplete}
	kernel.sent[7] = true
	ss.age(0, 0)
	if ss.begun != 1 || ss.old[7] == nil || !kernel.sent[7] {
		t.Fatalf("%d generations, %v", ss.begun, ss.old)
	}
	ss.young[8] = &signature{row: 2, end: format.EndComplete}
	ss.age(100, 200)
	if kernel.sent[7] {
		t.Error("the kernel did not forget")
	}
	for range 3 {
		ss.age(199, 500) // an event with it may be at 199
		if ss.begun != 1 || ss.row(7) == 0 {
			t.Fatal("given up while events may have it")
		}
	}
	ss.age(200, 500)
	ss.age(200, 500)
	if ss.begun != 2 || ss.row(7) != 0 || ss.lost != 1 {
		t.Errorf("%d generations; lost %d", ss.begun, ss.lost)
	}
	if err := w.Close(format.Trailer{}); err != nil {
		t.Fatal(err)
	}
}
