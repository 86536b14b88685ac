package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// fullDisk is a file on a disk with room for some bytes.
type fullDisk struct {
	data []byte
	pos  int
	room int
}

var errNoSpace = errors.New("no space left on device")

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), d.room-d.pos)
	d.data = append(d.data[:d.pos], p[:n]...)
	d.pos += n
	if n < len(p) {
		return n, errNoSpace
	}
	return n, nil
}

func (d *fullDisk) Seek(off int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		d.pos = int(off)
	}
	return int64(d.pos), nil
}

func (d *fullDisk) Truncate(n int64) error {
	d.data = d.data[:n]
	return nil
}

func TestFullDiskAtEveryByte(t *testing.T) {
	whole, events, blocks := smallCapture(t)
	clean, cut := 0, 0
	for room := 0; room < len(whole); room += stride {
		disk := &fullDisk{room: room}
		w, err := NewWriter(disk, Header{Tool: "tcap", ToolVersion: "test", Start: ClockAnchor{1000, 1700000000e9}}, WriterOptions{BlockEvents: 12, Level: zstd.SpeedFastest})
		if err != nil {
			if !errors.Is(err, errNoSpace) {
				t.Fatalf("room for %d: %v", room, err)
			}
			continue
		}
		again := randomEvents(w, len(events), 3)
		randomSnapshots(t, w, 3, 3)
		var failed error
		for i := range again {
			if err := w.Append(&again[i]); err != nil && failed == nil {
				failed = err
			} else if err == nil && failed != nil {
				t.Fatalf("room for %d: the error did not stick", room)
			}
		}
		err = w.Close(Trailer{Reason: "disk full"})
		if !errors.Is(err, errNoSpace) || failed != nil && !errors.Is(failed, errNoSpace) {
			t.Fatalf("room for %d: append: %v, close: %v", room, failed, err)
		}
		if again := w.Close(Trailer{}); again != err {
			t.Fatalf("room for %d: second close: %v", room, again)
		}
		got, r, err := salvage(disk.data)
		if err != nil {
			t.Fatalf("room for %d: %v", room, err)
		}
		what := fmt.Sprintf("room for %d", room)
		checkSalvage(t, what, got, events, blocks, func(b *BlockInfo) bool { return b.End() <= int64(room) })
		if len(r.Damage()) != 0 {
			t.Fatalf("%s: damage %v", what, r.Damage())
		}
		if trailer, ok := r.Trailer(); ok {
			clean++
			sum := uint64(0)
			for _, k := range trailer.Kinds {
				sum += k.Events
			}
			if trailer.Reason != "disk full" || sum != uint64(len(got)) {
				t.Fatalf("%s: trailer %+v for %d events", what, trailer, len(got))
			}
		}
		cut++
	}
	if cut < len(whole)/2/stride || clean < cut/8 {
		t.Fatalf("%d of %d lengths tried, %d had a clean end", cut, len(whole), clean)
	}
}

// TestFullPipe is the same for a writer that cannot be cut.
func TestFullPipe(t *testing.T) {
	whole, events, blocks := smallCapture(t)
	for room := int(blocks[1].End()); room < len(whole); room += 97 {
		disk := &fullDisk{room: room}
		w, err := NewWriter(struct{ io.Writer }{disk}, Header{Tool: "tcap", ToolVersion: "test", Start: ClockAnchor{1000, 1700000000e9}}, WriterOptions{BlockEvents: 12, Level: zstd.SpeedFastest})
		if err != nil {
			t.Fatal(err)
		}
		again := randomEvents(w, len(events), 3)
		randomSnapshots(t, w, 3, 3)
		for i := range again {
			_ = w.Append(&again[i])
		}
		if err := w.Close(Trailer{Reason: "exit"}); !errors.Is(err, errNoSpace) {
			t.Fatalf("room for %d: %v", room, err)
		}
		got, _, err := salvage(disk.data)
		if err != nil {
			t.Fatalf("room for %d: %v", room, err)
		}
		checkSalvage(t, fmt.Sprintf("room for %d", room), got, events, blocks, func(b *BlockInfo) bool { return b.End() <= int64(room) })
	}
}

func TestFlush(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(5) {
		task := w.Task(Task{Pid: uint32(n + 1), Tid: 7, Comm: "x"})
		if err := w.Append(&Event{Kind: KindFree, Task: task}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		got, r, err := salvage(buf.Bytes())
		if err != nil || len(got) != int(n)+1 || w.Size() != int64(buf.Len()) {
			t.Fatalf("after flush %d: %d events, %v", n, len(got), err)
		}
		if pid := r.Task(got[n].Task).Pid; pid != uint32(n+1) {
			t.Fatalf("after flush %d: task of process %d", n, pid)
		}
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("flush after close: %v", err)
	}
	if err := w.Append(&Event{Kind: KindFree}); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

func TestAppendRefuses(t *testing.T) {
	w, err := NewWriter(io.Discard, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(Trailer{})
	for name, e := range map[string]Event{"no kind": {}, "kind": {Kind: 200}, "task": {Kind: KindFree, Task: 9}} {
		if err := w.Append(&e); err == nil {
			t.Errorf("unknown %s: accepted", name)
		}
	}
}

func TestOpen(t *testing.T) {
	file, events := randomCapture(t, 500, 100, 9)
	path := filepath.Join(t.TempDir(), "x.tcap")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if h := r.Header(); h.Tool != "tcap" || h.Start.Wall != 1700000000e9 {
		t.Errorf("header %+v", h)
	}
	n := 0
	for range r.Events(Filter{}) {
		n++
	}
	if n != len(events) {
		t.Errorf("%d events, want %d", n, len(events))
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(path + ".not"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a directory was opened")
	}
}

func TestBatchesInOrderAndAtOnce(t *testing.T) {
	file, events := randomCapture(t, 20000, 500, 4)
	r, err := NewReader(bytes.NewReader(file), int64(len(file)), WithWorkers(4))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	for reader := range 3 {
		wg.Go(func() {
			next := uint64(0)
			for res, err := range r.Batches(Filter{}, func(b *Batch) any { return b.Info.EventsBefore }) {
				if err != nil || res.Value != next || res.Batch.Info.EventsBefore != next {
					t.Errorf("reader %d: got %v, %v, want block at %d", reader, res.Value, err, next)
					return
				}
				next += uint64(res.Batch.Len())
				if reader == 1 && next > 5000 {
					return // leaves early
				}
			}
			if reader != 1 && next != uint64(len(events)) {
				t.Errorf("reader %d: %d events", reader, next)
			}
		})
	}
	wg.Wait()
}

// TestBlockMemory: a block of events that refer to no others ends when its columns
// take their part of memory, and one of a heap when it has its events.
func TestBlockMemory(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		most int // events in a block
	}{
		{KindTCPState, 1 + (maxLone-1)/(1+len(Kinds[KindTCPState].Fields))},
		{KindAlloc, DefaultBlockEvents},
	} {
		var buf bytes.Buffer
		w, err := NewWriter(&buf, Header{}, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		const events = DefaultBlockEvents + 1
		for i := range events {
			if err := w.Append(&Event{Kind: c.kind, Time: int64(i)}); err != nil {
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
		left := events
		for _, b := range r.Blocks() {
			if b.Type != BlockEvents {
				continue
			}
			if want := min(left, c.most); b.Events != want {
				t.Errorf("%s: a block of %d events, want %d", Kinds[c.kind].Name, b.Events, want)
			}
			left -= b.Events
		}
		if left != 0 {
			t.Errorf("%s: %d events are in no block", Kinds[c.kind].Name, left)
		}
	}
}
