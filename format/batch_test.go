package format

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// capture makes a capture of text with small blocks.
func capture(t testing.TB, text string, blockEvents int) *Reader {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{}, WriterOptions{BlockEvents: blockEvents})
	if err != nil {
		t.Fatal(err)
	}
	if err := Parse(w, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// pairs describes, for each event, what its batch says of its heap block.
func pairs(t *testing.T, r *Reader) (out []string) {
	t.Helper()
	for res, err := range r.Batches(Filter{}, nil) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range res.Batch.Len() {
			s := ""
			if birth, ok := res.Batch.Freed(i); ok {
				s += fmt.Sprintf("freed %d ", res.Batch.Info.EventsBefore+uint64(birth))
			}
			if res.Batch.Displaced(i) {
				s += "displaced "
			}
			if res.Batch.Consumed(i) {
				s += "consumed "
			}
			out = append(out, strings.TrimSpace(s))
		}
	}
	return out
}

func TestPairs(t *testing.T) {
	for _, c := range []struct {
		name, trace string
		block       int
		want        []string
	}{
		{"within a block", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a heap.alloc addr=0x20 size=1
0.3 1/1 a heap.free addr=0x10
0.4 1/1 a heap.free addr=0x20`, 10, []string{"consumed", "consumed", "freed 0", "freed 1"}},
		{"across blocks", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a heap.alloc addr=0x20 size=1
0.3 1/1 a heap.free addr=0x10
0.4 1/1 a heap.alloc addr=0x10 size=1
0.5 1/1 a heap.free addr=0x10`, 2, []string{"", "", "", "", ""}},
		{"a realloc in place", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a heap.realloc old=0x10 addr=0x10 size=9 duration=5
0.3 1/1 a heap.free addr=0x10`, 10, []string{"consumed", "freed 0 consumed", "freed 1"}},
		{"freed twice", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a heap.free addr=0x10
0.3 1/1 a heap.free addr=0x10`, 10, []string{"consumed", "freed 0", ""}},
		{"a free was lost", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a heap.alloc addr=0x10 size=1
0.3 1/1 a heap.free addr=0x10`, 10, []string{"", "displaced consumed", "freed 1"}},
		{"a free was lost, seen in a later block", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a heap.alloc addr=0x30 size=1
0.3 1/1 a heap.alloc addr=0x10 size=1
0.4 1/1 a heap.free addr=0x10`, 2, []string{"", "", "displaced consumed", "freed 2"}},
		{"another thread gets the old address before the realloc is told", `
0.10 1/1 a heap.alloc addr=0x10 size=1
0.30 1/2 a heap.alloc addr=0x10 size=1
0.40 1/1 a heap.realloc old=0x10 addr=0x20 size=9 duration=200000000
0.50 1/2 a heap.free addr=0x10
0.60 1/1 a heap.free addr=0x20`, 10, []string{"", "displaced consumed", "consumed", "freed 1", "freed 2"}},
		{"a free is told after the birth that followed it", `
0.10 1/1 a heap.alloc addr=0x10 size=1
0.30 1/2 a heap.alloc addr=0x10 size=1
0.20 1/1 a heap.free addr=0x10
0.50 1/2 a heap.free addr=0x10`, 10, []string{"", "displaced consumed", "", "freed 1"}},
		{"address spaces are apart", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 2/2 b heap.alloc addr=0x10 size=1
0.3 2/2 b heap.free addr=0x10
0.4 1/1 a heap.free addr=0x10`, 10, []string{"consumed", "consumed", "freed 1", "freed 0"}},
		{"an unknown address space is nobody's", `
0.1 3/3@3 c heap.alloc addr=0x10 size=1
0.2 1/1@0 a heap.alloc addr=0x10 size=1
0.3 2/2@0 b heap.free addr=0x10`, 10, []string{"", "", ""}},
		{"exec drops the blocks", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a proc.exec path=/x space=2
0.3 1/1 a heap.free addr=0x10`, 10, []string{"", "", ""}},
		{"a vfork child's exec does not drop its parent's", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a proc.fork child_pid=2 child_tid=2 child_space=1 shared_vm=yes
0.3 2/2@1 a proc.exec path=/x space=2
0.4 1/1 a heap.free addr=0x10`, 10, []string{"consumed", "", "", "freed 0"}},
		{"nor does its exit", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a proc.fork child_pid=2 child_tid=2 child_space=1 shared_vm=yes
0.3 2/2@1 a proc.exit
0.4 1/1 a heap.free addr=0x10`, 10, []string{"consumed", "", "", "freed 0"}},
		{"the exit of the last drops them", `
0.1 1/1 a heap.alloc addr=0x10 size=1
0.2 1/1 a proc.exit space_gone=yes
0.3 1/1 a heap.alloc addr=0x10 size=1`, 10, []string{"", "", ""}},
	} {
		if got := pairs(t, capture(t, c.trace, c.block)); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFilter(t *testing.T) {
	r := capture(t, `
1.0 1/1 a heap.alloc addr=0x10 size=1
2.0 1/2 b heap.free addr=0x10
3.0 2/3 a proc.exit
4.0 2/4 c heap.free addr=0x20
5.0 3/5 c proc.exit
`, 2)
	if n := len(r.Damage()); n != 0 {
		t.Fatal(r.Damage())
	}
	for _, c := range []struct {
		name   string
		f      Filter
		want   []uint64
		blocks int // that were decoded
	}{
		{"all", Filter{}, []uint64{0, 1, 2, 3, 4}, 3},
		{"from", Filter{From: 3e9}, []uint64{2, 3, 4}, 2},
		{"to", Filter{To: 2e9}, []uint64{0, 1}, 1},
		{"window", Filter{From: 2e9, To: 3e9}, []uint64{1, 2}, 2},
		{"kind", Filter{Kinds: NewKindSet(KindAlloc)}, []uint64{0}, 1},
		{"kinds", Filter{Kinds: NewKindSet(KindAlloc, KindExit)}, []uint64{0, 2, 4}, 3},
		{"pid", Filter{Pids: []uint32{2}}, []uint64{2, 3}, 1},
		{"pids", Filter{Pids: []uint32{3, 1}}, []uint64{0, 1, 4}, 2},
		{"tid", Filter{Tids: []uint32{2}}, []uint64{1}, 1},
		{"comm", Filter{Comms: []string{"a"}}, []uint64{0, 2}, 2},
		{"all at once", Filter{From: 1, To: 3e9, Comms: []string{"a"}, Pids: []uint32{2}, Kinds: NewKindSet(KindExit)}, []uint64{2}, 1},
		{"none", Filter{Pids: []uint32{99}}, nil, 0},
	} {
		var got []uint64
		for e, err := range r.Events(c.f) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Seq)
		}
		blocks := 0
		for range r.Batches(c.f, nil) {
			blocks++
		}
		if !slices.Equal(got, c.want) || blocks != c.blocks {
			t.Errorf("%s: events %v of %d blocks, want %v of %d", c.name, got, blocks, c.want, c.blocks)
		}
	}
}
