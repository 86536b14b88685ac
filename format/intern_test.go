package format

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// TestEverNewStacks writes more stacks than a Writer knows again: no more are held,
// each event reads back with its stack, and those in use keep their row.
func TestEverNewStacks(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const limit, n = 100, 5000
	w.stackLimit = limit
	var want []string
	rows := map[StackID]bool{}
	for i := range n {
		name := fmt.Sprint("f", i)
		if i%3 == 0 {
			name = "always"
		}
		id := w.Stack(w.Stack(0, w.Frame(Frame{Function: "main"})), w.Frame(Frame{Function: name}))
		if name == "always" {
			rows[id] = true
		}
		want = append(want, name+" main ")
		e := Event{Kind: KindAlloc, Time: int64(i), V: [MaxFields]uint64{uint64(16 * (i + 1)), 8, uint64(id), FnMalloc}}
		if err := w.Append(&e); err != nil {
			t.Fatal(err)
		}
		if held := len(w.stacks) + len(w.oldStacks); held > 2*limit {
			t.Fatalf("%d rows of stacks are held, the limit is 2 * %d", held, limit)
		}
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 {
		t.Errorf("a stack that is in use has %d rows", len(rows))
	}
	if _, got := stacksOf(t, read(t, file.Bytes())); !slices.Equal(got, want) {
		t.Error("events have other stacks than they were given")
	}
}

// TestManyRows: where the rows of a table are too many to be written once more, they
// are not held for that.
func TestManyRows(t *testing.T) {
	var r tableRows
	r.next, r.first = 1, 1
	row := make([]byte, 1<<20)
	for range 40 {
		r.add(row)
		r.appendFresh(nil, tableStacks)
		if len(r.all) > maxCopied {
			t.Fatalf("%d bytes are held", len(r.all))
		}
	}
	if !r.many || r.all != nil {
		t.Errorf("%d bytes are held of rows that are not copied", len(r.all))
	}
}
