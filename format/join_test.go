package format

import (
	"bytes"
	"fmt"
	"testing"
)

// TestForgottenStacks: a stack that a Writer had forgotten when it came again, since there were
// too many others, is one stack to a reader, unless it ended otherwise.
func TestForgottenStacks(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const side = 1 << 5
	w.stackLimit = side * side
	frames := make([]FrameID, side)
	for i := range frames {
		frames[i] = w.Frame(Frame{Function: fmt.Sprint("f", i)})
	}
	rows := map[StackID]int{} // of the stacks of each size
	n := uint64(0)
	append := func(size uint64, end StackEnd) {
		first := w.NewStack(frames[1])
		whole := w.Stack(w.Stack(w.Stack(0, frames[0]), frames[size]), frames[1])
		w.EndStack(first, whole, end)
		w.EndStack(whole, whole, end)
		rows[whole]++
		e := Event{Kind: KindAlloc, Time: int64(n), V: [MaxFields]uint64{16 * (n + 1), size, uint64(first), FnMalloc}}
		if err := w.Append(&e); err != nil {
			t.Fatal(err)
		}
		n++
	}
	for round, end := range []StackEnd{EndComplete, EndComplete, EndCopy} {
		append(2, EndComplete)
		append(3, end)
		for i := range 2 * side {
			top := w.Stack(StackID(0), frames[i%side])
			for j := range side {
				w.Stack(w.Stack(top, frames[round]), frames[j])
				top = w.Stack(top, frames[j])
			}
		}
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 6 {
		t.Fatalf("the writer has forgotten too little: %d rows", len(rows))
	}
	r := read(t, file.Bytes())
	r.tables.joinEqual(w.stackLimit) // as when it is opened, but for the limit
	got := map[uint64]map[StackID]int{2: {}, 3: {}}
	for _, e := range events(t, r) {
		id := StackID(e.V[AllocStack])
		got[e.V[AllocSize]][id]++
		if n := len(r.Stack(id, nil)); n != 3 {
			t.Errorf("a stack of %d frames", n)
		}
		if want := e.V[AllocSize] == 2 || e.Time < 4; (r.StackEnd(id) == EndComplete) != want {
			t.Errorf("event %d: its stack ends: %v", e.Time, r.StackEnd(id))
		}
	}
	if len(got[2]) != 1 || len(got[3]) != 2 {
		t.Errorf("stacks by size: %v, want one and two", got)
	}
	if findings, err := r.Validate(); err != nil || len(findings) > 0 {
		t.Errorf("not valid: %v, %v", findings, err)
	}
}
