package format

// A Batch is one decoded block of events. It is read-only, and valid until the
// iteration that gave it goes on.
type Batch struct {
	Info BlockInfo
	Kind []Kind   // of each event, in file order
	Row  []uint32 // of each event: its row in the columns of its kind
	Time []int64  // of each event, CLOCK_MONOTONIC ns
	Task []TaskID // of each event

	// Cols has the fields of the events: Cols[kind][field][row]. The columns of
	// a kind in [Kinds] that has events here are complete: a field that the
	// file lacks is zeros. Of later kinds there is what the file has; a column
	// may be nil.
	Cols [256][]Column

	wholeOf    []StackID // by stack: what it turned out to be
	births     []uint32  // events that gave birth to a heap block
	birthAddrs []uint64  // where
	birthSizes []uint64
	times      [256][]uint64 // by kind, as they are stored
	reuse      reuse
	heap       [256]heapColumns
	hasPlace   bool
	place      byte     // transform of the births
	displaced  []uint64 // births, by their number, at an address that was live
	freed      []uint32 // by event: event of the birth + 1, 0 when that was in another block
	fate       []uint8  // by event: fateDisplaced, fateConsumed
	rowCount   [256]uint32
	birthKind  [256]int8 // by kind: field of TypeBlock + 1
	freedKind  [256]int8 // by kind: field of TypeFreed + 1
	escapes    [256][]uint64
	starts     [256][]uint64 // by kind and row: where its bytes are in data
	data       [256][]byte
	dataKind   [256]int8 // by kind: field of TypeBytes + 1
	constants  []constant
	sameTask   []TaskID // what Task is part of when all are the same, and else
	manyTasks  []TaskID
	scratch    []uint64 // a column on its way
	arena      []uint64 // of all values
	need       int      // of the arena, by this block
	bufs       buffers
}

const (
	fateDisplaced = 1 << iota
	fateConsumed
)

// Len returns the number of events.
func (b *Batch) Len() int { return len(b.Kind) }

// Event fills e with event i.
func (b *Batch) Event(i int, e *Event) {
	k := b.Kind[i]
	e.Kind, e.Task, e.Time, e.Seq = k, b.Task[i], b.Time[i], b.Info.EventsBefore+uint64(i)
	row, cols := b.Row[i], b.Cols[k]
	e.V, e.Data = [MaxFields]uint64{}, b.dataOf(k, row)
	for f := range cols {
		if f < MaxFields && cols[f] != nil {
			e.V[f] = cols[f][row]
		}
	}
}

// Freed returns the event of this batch that gave birth to the heap block that
// dies with event i. ok is false when the block was born elsewhere, or event i
// ends no block.
func (b *Batch) Freed(i int) (birth int, ok bool) {
	v := b.freed[i]
	return int(v) - 1, v != 0
}

// Displaced reports whether the heap block that event i gave birth to took an
// address at which another block was live: the free of that one was lost, or
// is told later because its event was written late.
func (b *Batch) Displaced(i int) bool { return b.fate[i]&fateDisplaced != 0 }

// Consumed reports whether the heap block that event i gave birth to dies
// within this batch.
func (b *Batch) Consumed(i int) bool { return b.fate[i]&fateConsumed != 0 }

// Data returns the bytes of event i, nil when its kind has none. They are valid
// as long as the batch is.
func (b *Batch) Data(i int) []byte { return b.dataOf(b.Kind[i], b.Row[i]) }

func (b *Batch) dataOf(k Kind, row uint32) []byte {
	f := b.dataKind[k]
	if f == 0 {
		return nil
	}
	at, n := b.starts[k][row], b.Cols[k][f-1][row]
	return b.data[k][at : at+n : at+n]
}

// setData takes the bytes of a kind, whose lengths have been decoded.
func (b *Batch) setData(kind, field byte, lengths []uint64, data []byte) {
	starts, at := b.alloc(len(lengths)), uint64(0)
	for i, n := range lengths {
		starts[i] = at
		at += n
	}
	b.starts[kind], b.data[kind], b.dataKind[kind] = starts, data, int8(field)+1
}
