package format

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// randomSnapshots writes copies of stacks and returns them.
func randomSnapshots(t testing.TB, w *Writer, n int, seed uint64) (out []Snapshot) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	var lists [][]CodeMapping
	for i := range 3 {
		list := []CodeMapping{{Module: w.Module(Module{Path: "/tmp/perf-1.map"})}}
		for at := rng.Uint64N(1 << 40); len(list) < 4*i; {
			m := CodeMapping{Start: at, End: at + 1 + rng.Uint64N(1<<20), Offset: rng.Uint64N(1 << 30), Module: w.Module(Module{Path: fmt.Sprint("/lib", len(list))})}
			list = append(list, m)
			at = m.End + rng.Uint64N(1<<30)
		}
		lists = append(lists, list)
	}
	for range n {
		s := Snapshot{
			Stack: w.NewStack(w.Frame(Frame{Function: "leaf"})), Maps: lists[rng.IntN(len(lists))],
			Inside: rng.IntN(2) == 0, PC: rng.Uint64(), SP: rng.Uint64(), FP: rng.Uint64(), LR: rng.Uint64(), Regs: make([]uint64, rng.IntN(12)), Memory: make([]byte, 8*rng.IntN(100)),
		}
		for i := range s.Regs {
			s.Regs[i] = rng.Uint64()
		}
		for i := range s.Memory {
			s.Memory[i] = byte(rng.Uint32())
		}
		for range max(0, rng.IntN(8)-4) {
			s.Rest = append(s.Rest, SnapshotPart{rng.Uint64(), bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(100))})
		}
		w.EndStack(s.Stack, s.Stack, EndWaiting)
		_ = w.Snapshot(&s) // the error is that of the file, which Close returns too
		out = append(out, s)
	}
	return out
}

// readSnapshots are all that can be read.
func readSnapshots(t testing.TB, r *Reader) (out []Snapshot) {
	t.Helper()
	for s, err := range r.Snapshots() {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c := *s
		c.Memory, c.Rest = bytes.Clone(s.Memory), nil
		for _, p := range s.Rest {
			c.Rest = append(c.Rest, SnapshotPart{p.At, bytes.Clone(p.Memory)})
		}
		out = append(out, c)
	}
	return out
}

func snapshotCapture(t testing.TB, n int) ([]byte, []Snapshot) {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var want []Snapshot
	for i := range 3 { // three blocks
		some := randomSnapshots(t, w, n, uint64(i))
		for j := range some {
			e := Event{Kind: KindAlloc, Time: int64(1000*i + j), V: [MaxFields]uint64{uint64(16 * (j + 1)), 8, uint64(some[j].Stack), FnMalloc}}
			if err := w.Append(&e); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, some...)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(Trailer{StackEnds: map[string]uint64{"waiting": uint64(3 * n)}}); err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), want
}

func equalSnapshots(a, b []Snapshot) bool {
	return slices.EqualFunc(a, b, func(x, y Snapshot) bool {
		return reflect.DeepEqual(x.Maps, y.Maps) && slices.Equal(x.Regs, y.Regs) && bytes.Equal(x.Memory, y.Memory) &&
			slices.EqualFunc(x.Rest, y.Rest, func(a, b SnapshotPart) bool { return a.At == b.At && bytes.Equal(a.Memory, b.Memory) }) &&
			x.Stack == y.Stack && x.PC == y.PC && x.SP == y.SP && x.FP == y.FP && x.LR == y.LR && x.Inside == y.Inside
	})
}

// TestSnapshots reads back what was written, of whole files and of cut ones.
func TestSnapshots(t *testing.T) {
	file, want := snapshotCapture(t, 40)
	r := read(t, file)
	if findings, err := r.Validate(); err != nil || len(findings) > 0 {
		t.Fatalf("not valid: %v, %v", findings, err)
	}
	if !equalSnapshots(readSnapshots(t, r), want) {
		t.Error("snapshots differ from those that were written")
	}
	stored, raw := r.SnapshotBytes()
	if stored < 1000 || raw < stored/2 || stored > int64(len(file)) {
		t.Errorf("%d bytes of snapshots, %d stored, in a file of %d", raw, stored, len(file))
	}
	for end := 1; end < len(file); end += len(file)/50 + 1 {
		r, err := NewReader(bytes.NewReader(file), int64(end))
		if err != nil {
			continue
		}
		if got := readSnapshots(t, r); !equalSnapshots(got, want[:len(got)]) || len(got)%40 != 0 {
			t.Errorf("cut at %d: %d snapshots, which are not the first", end, len(got))
		}
		r.Close()
	}
}

// TestSnapshotsManyMappings: lists of mappings are bounded, and blocks end before.
func TestSnapshotsManyMappings(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var want []Snapshot
	for i := range 20 {
		s := Snapshot{Stack: w.NewStack(w.Frame(Frame{Function: "leaf"})), PC: uint64(i), Maps: make([]CodeMapping, maxBlockMaps/6)}
		for j := range s.Maps {
			s.Maps[j] = CodeMapping{Start: uint64(j), End: uint64(j + 1), Module: 0}
		}
		if err := w.Snapshot(&s); err != nil {
			t.Fatal(err)
		}
		want = append(want, s)
	}
	if err := w.Snapshot(&Snapshot{Maps: make([]CodeMapping, maxBlockMaps)}); !errors.Is(err, ErrLimit) {
		t.Errorf("too many mappings: %v", err)
	}
	if err := w.Snapshot(&Snapshot{Regs: make([]uint64, maxSnapshotRegs+1)}); !errors.Is(err, ErrLimit) {
		t.Errorf("too many registers: %v", err)
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Snapshot(&Snapshot{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	r := read(t, file.Bytes())
	if got := readSnapshots(t, r); !equalSnapshots(got, want) || len(r.Damage()) > 0 {
		t.Errorf("%d snapshots, want %d; damage: %v", len(got), len(want), r.Damage())
	}
}

// TestFinishSnapshots tells what stacks were, takes the copies out, and wants the
// rest as it was.
func TestFinishSnapshots(t *testing.T) {
	const n = 40
	file, want := snapshotCapture(t, n)
	before := read(t, file)
	a, err := before.Amend()
	if err != nil {
		t.Fatal(err)
	}
	leaf, main := a.Frame(Frame{Function: "leaf"}), a.Frame(Frame{Function: "main"})
	whole := a.Stack(a.Stack(0, main), leaf)
	alone := a.Stack(0, leaf) // not one of those that are waiting
	a.EndStack(whole, whole, EndComplete)
	a.EndStack(alone, alone, EndNoRule)
	for i := range want {
		switch {
		case i < n:
			a.EndStack(want[i].Stack, whole, EndComplete)
		case i < 2*n:
			if want[i].Stack == alone {
				t.Fatal("a stack that waits is taken for one that is known")
			}
			a.EndStack(want[i].Stack, alone, EndNoRule)
		}
	}
	if err := a.CountEnds(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if size, err := a.WriteTo(&out); err != nil || size != int64(out.Len()) {
		t.Fatalf("%d bytes, says %d: %v", out.Len(), size, err)
	}
	r := read(t, out.Bytes())
	if findings, err := r.Validate(); err != nil || len(findings) > 0 {
		t.Fatalf("not valid: %v, %v", findings, err)
	}
	if !equalSnapshots(readSnapshots(t, r), want) {
		t.Error("snapshots changed")
	}
	tr, _ := r.Trailer()
	if wantEnds := map[string]uint64{"complete": n, "no_unwind_info": n, "waiting": n}; !maps.Equal(tr.StackEnds, wantEnds) {
		t.Errorf("the end counts %v, want %v", tr.StackEnds, wantEnds)
	}
	ids, functions := stacksOf(t, r)
	if len(ids) != 3*n || functions[0] != "leaf main " || functions[n] != "leaf " || r.StackEnd(ids[n]) != EndNoRule || r.StackEnd(ids[2*n]) != EndWaiting {
		t.Errorf("%d events; %q, %q %v, %v", len(ids), functions[0], functions[n], r.StackEnd(ids[n]), r.StackEnd(ids[2*n]))
	}
	// Once more, with a damaged block of events: it stays where it is, damaged.
	bad := bytes.Clone(out.Bytes())
	for _, b := range r.Blocks() {
		if b.Type == BlockEvents {
			bad[b.End()-1] ^= 1
			break
		}
	}
	again, err := read(t, bad).Amend()
	if err != nil {
		t.Fatal(err)
	}
	if !again.DropSnapshots() {
		t.Error("snapshots cannot be dropped")
	}
	if err := again.CountEnds(); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if _, err := again.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	r = read(t, out.Bytes())
	if got := events(t, r); len(got) != 2*n || len(r.Damage()) != 1 || r.Damage()[0].Events != n {
		t.Errorf("%d events, damage %+v", len(got), r.Damage())
	}
	if got := readSnapshots(t, r); len(got) != 0 {
		t.Errorf("%d snapshots are left", len(got))
	}
	for _, b := range r.Blocks() {
		if b.Type == BlockSnapshots {
			t.Error("a block of snapshots is left")
		}
	}
	if tr, _ := r.Trailer(); tr.StackEnds["waiting"] != 0 || tr.StackEnds["dropped"] != n {
		t.Errorf("without the copies the end counts %v", tr.StackEnds)
	}
}

func FuzzSnapshots(f *testing.F) {
	file, _ := snapshotCapture(f, 5)
	r := read(f, file)
	var bufs buffers
	for i := range r.blocks {
		if b := &r.blocks[i]; b.Type == BlockSnapshots {
			payload, err := r.payload.read(b, &bufs)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(bytes.Clone(payload))
		}
	}
	f.Add([]byte{recordMaps, 0, recordSnapshot, 8, 1, 0, 0, 1, 1, 1, 1, 0, recordRest, 2, 1, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		_, err := decodeSnapshots(in, func(s *Snapshot) bool {
			for i, m := range s.Maps {
				if m.End < m.Start || i > 0 && m.Start < s.Maps[i-1].End {
					t.Fatalf("mappings %v are not ascending", s.Maps)
				}
			}
			return true
		})
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLimit) {
			t.Fatalf("error of another kind: %v", err)
		}
	})
}
