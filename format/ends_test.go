package format

import (
	"bytes"
	"slices"
	"testing"
)

// endsCapture has two events with the stacks that make returns.
func endsCapture(t *testing.T, make func(w *Writer) (first, second StackID), after func(w *Writer)) *Reader {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first, second := make(w)
	for i, s := range []StackID{first, second} {
		e := Event{Kind: KindAlloc, Time: int64(i), V: [MaxFields]uint64{uint64(0x1000 * (i + 1)), 8, uint64(s), FnMalloc}}
		if err := w.Append(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil { // the events are in the file before their stacks are known
		t.Fatal(err)
	}
	if after != nil {
		after(w)
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// stacksOf are the stacks that the events have, and their functions.
func stacksOf(t *testing.T, r *Reader) (ids []StackID, functions []string) {
	t.Helper()
	for e, err := range r.Events(Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		id := StackID(e.V[AllocStack])
		text := ""
		for _, f := range r.Stack(id, nil) {
			text += f.Function + " "
		}
		ids, functions = append(ids, id), append(functions, text)
	}
	return ids, functions
}

// TestStackEnds: what two stacks were, of which only the caller was known when
// their events were written, is told later, and they are the same stack.
func TestStackEnds(t *testing.T) {
	var first, second StackID
	pending := func(w *Writer) (StackID, StackID) {
		leaf := w.Frame(Frame{Function: "leaf"})
		first, second = w.NewStack(leaf), w.NewStack(leaf)
		return first, second
	}
	r := endsCapture(t, pending, nil)
	ids, functions := stacksOf(t, r)
	if ids[0] == ids[1] || !slices.Equal(functions, []string{"leaf ", "leaf "}) || r.StackEnd(ids[0]) != EndUnknown {
		t.Errorf("before they are known: %v %q %v", ids, functions, r.StackEnd(ids[0]))
	}
	r = endsCapture(t, pending, func(w *Writer) {
		whole := w.Stack(w.Stack(0, w.Frame(Frame{Function: "main"})), w.Frame(Frame{Function: "leaf"}))
		w.EndStack(first, whole, EndDropped) // the later word holds
		w.EndStack(first, whole, EndComplete)
		w.EndStack(second, whole, EndComplete)
		w.EndStack(whole, whole, EndComplete)
		w.EndStack(99, whole, EndComplete) // as in a damaged file
		w.EndStack(whole, 99, EndCopy)
	})
	ids, functions = stacksOf(t, r)
	if ids[0] != ids[1] || !slices.Equal(functions, []string{"leaf main ", "leaf main "}) || r.StackEnd(ids[0]) != EndComplete {
		t.Errorf("when they are known: %v %q %v", ids, functions, r.StackEnd(ids[0]))
	}
	if len(r.Damage()) != 0 {
		t.Errorf("damage: %v", r.Damage())
	}
	if whole := r.Stack(first, nil); len(whole) != 2 {
		t.Errorf("the row itself has %d frames, want those of the whole stack", len(whole))
	}
}

// TestStackEndNames: every end has a name and an explanation of its own.
func TestStackEndNames(t *testing.T) {
	seen := map[string]bool{}
	for e := range StackEnds {
		if n, x := e.String(), e.Explain(); n == "" || x == "" || seen[n] || seen[x] {
			t.Errorf("end %d is called %q and explained as %q", e, n, x)
		} else {
			seen[n], seen[x] = true, true
		}
	}
	if StackEnds.String() != "unknown" || StackEnd(200).Explain() != EndUnknown.Explain() {
		t.Errorf("an end of the future: %v, %q", StackEnds, StackEnd(200).Explain())
	}
}
