package format

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// smallCapture is a capture of several small blocks, its events and its blocks.
func smallCapture(t testing.TB) ([]byte, []Event, []BlockInfo) {
	t.Helper()
	file, events := randomCapture(t, 60, 12, 3)
	r, err := NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(r.Damage()) != 0 {
		t.Fatalf("damage in a whole file: %v", r.Damage())
	}
	return file, events, r.Blocks()
}

// salvage reads what a damaged file still has, by ordinal, and how many events
// the reader says are missing (-1: it cannot say).
func salvage(file []byte, opts ...Option) (got map[uint64]Event, r *Reader, err error) {
	r, err = NewReader(bytes.NewReader(file), int64(len(file)), append(opts, WithWorkers(1))...)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	got = map[uint64]Event{}
	for e, err := range r.Events(Filter{}) {
		if err != nil {
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) {
				return got, r, err
			}
			continue
		}
		if _, twice := got[e.Seq]; twice {
			return got, r, fmt.Errorf("event %d twice", e.Seq)
		}
		got[e.Seq] = keepEvent(e)
	}
	for _, err := range r.Snapshots() {
		var corrupt *CorruptError
		if err != nil && !errors.As(err, &corrupt) {
			return got, r, err
		}
	}
	return got, r, nil
}

// checkSalvage wants every event whose block intact says is whole, unchanged,
// and no event that was never written.
func checkSalvage(t *testing.T, what string, got map[uint64]Event, events []Event, blocks []BlockInfo, intact func(*BlockInfo) bool) {
	t.Helper()
	for i := range blocks {
		b := &blocks[i]
		if b.Type != BlockEvents || !intact(b) {
			continue
		}
		for n := b.EventsBefore; n < b.EventsBefore+uint64(b.Events); n++ {
			if !sameEvent(got[n], events[n]) {
				t.Fatalf("%s: event %d of the whole block at %d: got %+v, want %+v", what, n, b.Offset, got[n], events[n])
			}
		}
	}
	for n, e := range got {
		if n >= uint64(len(events)) || !sameEvent(e, events[n]) {
			t.Fatalf("%s: event %d is %+v", what, n, e)
		}
	}
}

func TestTruncatedAtEveryByte(t *testing.T) {
	file, events, blocks := smallCapture(t)
	cut := 0
	for n := 0; n < len(file); n += stride {
		got, r, err := salvage(file[:n])
		if n < int(blocks[0].End()) {
			if !errors.Is(err, ErrNotCapture) {
				t.Fatalf("cut at %d, in the first block: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		what := fmt.Sprintf("cut at %d", n)
		checkSalvage(t, what, got, events, blocks, func(b *BlockInfo) bool { return b.End() <= int64(n) })
		if _, clean := r.Trailer(); clean {
			t.Fatalf("%s: reported a clean end", what)
		}
		whole := false
		for _, b := range blocks {
			whole = whole || b.End() == int64(n)
		}
		if whole == (len(r.Damage()) > 0) {
			t.Fatalf("%s: between blocks %v, damage %v", what, whole, r.Damage())
		}
		cut++
	}
	if cut < len(file)/2/stride {
		t.Fatalf("only %d cuts were tried", cut)
	}
}

func TestEveryByteFlipped(t *testing.T) {
	file, events, blocks := smallCapture(t)
	for n := 0; n < len(file); n += stride {
		damaged := bytes.Clone(file)
		damaged[n] ^= 1 << (n % 8)
		what := fmt.Sprintf("byte %d flipped", n)
		got, r, err := salvage(damaged)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		checkSalvage(t, what, got, events, blocks, func(b *BlockInfo) bool { return int64(n) < b.Offset || int64(n) >= b.End() })
		missing := int64(0)
		for _, d := range r.Damage() {
			missing += max(d.Events, 0)
		}
		if missing != int64(len(events)-len(got)) {
			t.Fatalf("%s: %d events missing, damage says %+v", what, len(events)-len(got), r.Damage())
		}
		if r.Header().Tool != "tcap" || r.Task(1).Comm != "task-0" {
			t.Fatalf("%s: lost header or tables", what)
		}
	}
}

// TestFlippedWithoutIndex is the same for a file of a recorder that was killed:
// there is no second copy, and the blocks are found by walking.
func TestFlippedWithoutIndex(t *testing.T) {
	file, events, blocks := smallCapture(t)
	for i, b := range blocks {
		if b.Type == BlockHeader && i > 0 {
			file = file[:b.Offset]
			blocks = blocks[:i]
			break
		}
	}
	for n := 0; n < len(file); n += stride {
		damaged := bytes.Clone(file)
		damaged[n] ^= 0x10
		what := fmt.Sprintf("byte %d flipped", n)
		got, r, err := salvage(damaged)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		checkSalvage(t, what, got, events, blocks, func(b *BlockInfo) bool { return int64(n) < b.Offset || int64(n) >= b.End() })
		missing, unknown, windows := int64(0), false, 0
		for _, d := range r.Damage() {
			unknown = unknown || d.Events < 0
			missing += max(d.Events, 0)
			if d.Events > 0 && (d.From != 0 || d.To != 0) {
				windows++
			}
		}
		lost := int64(len(events) - len(got))
		if !unknown && missing != lost || len(r.Damage()) == 0 || missing > 0 && windows == 0 {
			t.Fatalf("%s: %d events missing, damage says %+v", what, lost, r.Damage())
		}
	}
}

// TestBytesRemoved cuts a piece out of every block in turn, so that the next
// header lies where the block's payload should be.
func TestBytesRemoved(t *testing.T) {
	file, events, blocks := smallCapture(t)
	tried := 0
	for i := range blocks {
		b := &blocks[i]
		if b.StoredLen < 8 {
			continue
		}
		at := b.Offset + headerSize + int64(b.StoredLen)/2
		damaged := append(bytes.Clone(file[:at]), file[at+5:]...)
		got, _, err := salvage(damaged)
		if err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		checkSalvage(t, fmt.Sprintf("bytes removed from block %d", i), got, events, blocks, func(o *BlockInfo) bool { return o.Offset != b.Offset })
		tried++
	}
	if tried < 6 {
		t.Fatalf("only %d blocks were tried", tried)
	}
}

func TestNotACapture(t *testing.T) {
	header, _ := randomCapture(t, 0, 10, 1)
	for name, in := range map[string][]byte{
		"empty":     nil,
		"text":      []byte("hello, this is not a capture\n"),
		"zeros":     make([]byte, 3<<20),
		"sync mark": []byte(syncMark),
		"marks":     bytes.Repeat([]byte(syncMark), 1000),
		"header":    header[:headerSize],
	} {
		if _, err := NewReader(bytes.NewReader(in), int64(len(in))); !errors.Is(err, ErrNotCapture) {
			t.Errorf("%s: got %v, want ErrNotCapture", name, err)
		}
	}
}

func TestJunkBeforeTheFirstBlock(t *testing.T) {
	file, events, blocks := smallCapture(t)
	got, r, err := salvage(append(make([]byte, 1000), file...))
	if err != nil {
		t.Fatal(err)
	}
	checkSalvage(t, "junk in front", got, events, blocks, func(*BlockInfo) bool { return true })
	if d := r.Damage(); len(d) != 1 || d[0].Offset != 0 || d[0].Length != 1000 || d[0].Events != 0 {
		t.Errorf("damage %+v, want the first 1000 bytes without events", d)
	}
}

func TestTwoCapturesInAFile(t *testing.T) {
	file, events, blocks := smallCapture(t)
	got, r, err := salvage(append(bytes.Clone(file), file...))
	if err != nil {
		t.Fatal(err)
	}
	checkSalvage(t, "twice", got, events, blocks, func(*BlockInfo) bool { return true })
	if len(r.Damage()) == 0 {
		t.Error("the second capture is not mentioned")
	}
}
