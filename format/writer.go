package format

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// WriterOptions tune a Writer; the zero value is what is recommended.
type WriterOptions struct {
	Level       zstd.EncoderLevel // default zstd.SpeedFastest
	BlockEvents int               // events in a block, at most 262144; default DefaultBlockEvents
}

// DefaultBlockEvents is how many events a block holds unless told otherwise.
const DefaultBlockEvents = 1 << 16

// A Writer writes a capture. Its methods must not be called concurrently.
//
// Append gathers events; each full block is encoded, compressed and handed to
// the io.Writer by a goroutine that the Writer owns and that Close ends. A
// write error therefore surfaces at a later call; it is sticky.
type Writer struct {
	sink   *sink
	sticky atomic.Pointer[error]
	closed bool

	max    int // events in a block
	cur    *builder
	free   chan *builder
	made   int    // builders
	blocks uint32 // events blocks begun
	events uint64 // in blocks that were handed over
	byKind [256]uint64
	lost   [256]uint64 // by kind, as told by events of KindLoss

	interner
	snapshots snapshotRows
	tasks     map[Task]TaskID
	probes    map[probeRow]ProbeID
	declared  []Probe // by their number, from 1

	start  int64    // of the header's clock anchor, ns; what text is relative to
	spaces []uint32 // address space by task
	pairs  pairing
}

// WriterStats say what a Writer has done so far.
type WriterStats struct {
	Events       uint64          // appended
	Written      uint64          // of these, in blocks that were written
	EventsByKind map[Kind]uint64 //
	BytesByKind  map[Kind]uint64 // written: share of the compressed blocks, about
	Bytes        int64           // written
	Blocks       int             // written, of all types
}

// NewWriter begins a capture on w and writes its header. It returns the first
// write error.
func NewWriter(w io.Writer, h Header, o WriterOptions) (*Writer, error) {
	if o.Level == 0 {
		o.Level = zstd.SpeedFastest
	}
	if o.BlockEvents <= 0 {
		o.BlockEvents = DefaultBlockEvents
	}
	wr := &Writer{
		max:      min(o.BlockEvents, maxEvents),
		free:     make(chan *builder, builders),
		interner: newInterner(),
		tasks:    map[Task]TaskID{{}: 0},
		probes:   map[probeRow]ProbeID{},
		spaces:   []uint32{0},
		start:    h.Start.Mono,
	}
	wr.stackLimit = maxKnownStacks
	wr.full = func() {
		if !wr.closed {
			_ = wr.hand(nil) // the error is sticky; Append returns it
		}
	}
	var err error
	if wr.sink, err = newSink(w, h, o.Level, wr.free, &wr.sticky); err != nil {
		return nil, err
	}
	wr.cur, wr.made = newBuilder(wr.max), 1
	wr.pairs.births = make([]birth, 0, wr.max)
	wr.begin()
	go wr.sink.run()
	return wr, nil
}

// maxKnownStacks bounds the rows of stacks that a Writer knows again, to some 100 MB
// in two generations.
const maxKnownStacks = 1 << 20

// builders bounds the blocks that wait for the compressor, are in it, or are
// being filled. A disk that does not keep up for a moment makes their number
// grow, to some 5 MB each, before it makes Append wait.
const builders = 16

// begin starts the current block.
func (w *Writer) begin() {
	w.cur.reset()
	w.cur.number, w.cur.ordinal = w.blocks, w.events
	w.blocks++
	w.pairs.begin()
}

// Append adds an event. It copies e. The error is that of an earlier write, or
// says that the event is of no known kind or task.
func (w *Writer) Append(e *Event) error {
	if int(e.Kind) >= len(Kinds) || e.Kind == KindInvalid {
		return fmt.Errorf("append event: %w kind %d", errUnknown, e.Kind)
	}
	if int(e.Task) >= len(w.spaces) {
		return fmt.Errorf("append event: %w task %d", errUnknown, e.Task)
	}
	if len(e.Data) > maxData {
		return fmt.Errorf("append event: %w: %d bytes of data, an event holds %d", ErrLimit, len(e.Data), maxData)
	}
	if w.closed {
		return ErrClosed
	}
	if w.cur.full(e.Data) {
		_ = w.hand(nil) // the error is sticky and returned below
	}
	w.byKind[e.Kind]++
	w.cur.append(e, &w.pairs, w.pairs.live.of(w.spaces[e.Task]))
	switch e.Kind {
	case KindFork, KindExec, KindExit:
		w.pairs.live.process(e, w.spaces[e.Task])
	case KindLoss:
		w.lost[lossKind(e)] += e.V[LossCount]
	}
	if !w.cur.ends() {
		return w.err()
	}
	return w.hand(nil)
}

// hand gives the current block to the compressor and begins another. done is
// closed when everything up to it was written.
func (w *Writer) hand(done chan struct{}) error {
	b := w.cur
	b.seal(&w.pairs)
	for table := range w.rows {
		b.tables = w.rows[table].appendFresh(b.tables, table)
	}
	b.snapshots = w.snapshots.take(b.snapshots[:0])
	w.events += uint64(len(b.kinds))
	b.flush = done
	w.sink.jobs <- b // has room for all
	w.cur = w.empty()
	w.begin()
	return w.err()
}

// empty returns a builder to fill.
func (w *Writer) empty() *builder {
	select {
	case b := <-w.free:
		return b
	default:
	}
	if w.made < builders {
		w.made++
		return newBuilder(w.max)
	}
	return <-w.free
}

func (w *Writer) err() error {
	if p := w.sticky.Load(); p != nil {
		return *p
	}
	return nil
}

// Cut ends the current block, so that it is written soon and with it all that
// was appended so far. It does not wait for that, unlike [Writer.Flush]: when the
// io.Writer is so far behind that it would have to, the block goes on.
func (w *Writer) Cut() error {
	if w.closed {
		return ErrClosed
	}
	if w.made == builders && len(w.free) == 0 {
		return w.err()
	}
	return w.hand(nil)
}

// Flush ends the current block and returns when everything so far was handed
// to the io.Writer.
func (w *Writer) Flush() error {
	if w.closed {
		return ErrClosed
	}
	done := make(chan struct{})
	_ = w.hand(done) // the error is sticky and returned below
	<-done
	return w.err()
}

// Close writes what is left, a second copy of the tables when that is small,
// the index and the clean end. Later calls return what the first did.
func (w *Writer) Close(t Trailer) error {
	if w.closed {
		return w.err()
	}
	w.closed = true
	done := make(chan struct{})
	_ = w.hand(done) // the error is sticky and returned below
	<-done
	close(w.sink.jobs)
	<-w.sink.done
	t.Kinds = w.totals()
	if w.err() != nil {
		t.Truncated = true
		t.Unwritten = w.events - w.sink.events
	}
	w.sink.end(&w.rows, t)
	return w.err()
}

// Size returns the bytes written so far.
func (w *Writer) Size() int64 { return w.sink.written.Load() }

// Stats returns what the Writer has done so far.
func (w *Writer) Stats() WriterStats {
	s := WriterStats{EventsByKind: map[Kind]uint64{}, BytesByKind: map[Kind]uint64{}, Bytes: w.Size()}
	for k, n := range w.byKind {
		if n > 0 {
			s.EventsByKind[Kind(k)] = n
			s.Events += n
		}
	}
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	s.Blocks = len(w.sink.index)
	s.Written = w.sink.events
	for k := range w.sink.tally {
		if n := w.sink.tally[k].Bytes; n > 0 {
			s.BytesByKind[Kind(k)] = n
		}
	}
	return s
}
