package format

import "iter"

// KindTotals sums up the events of a kind in a capture.
type KindTotals struct {
	Events uint64 `json:"events,omitempty"`
	Bytes  uint64 `json:"bytes,omitempty"` // of the file, compressed: the kind's share of its blocks, about
	Lost   uint64 `json:"lost,omitempty"`  // events that the recorder says it lost; under kind 0 when it cannot say of which kind
}

// A tally adds up KindTotals while a capture is written.
type tally [256]KindTotals

// block shares the stored bytes of a block of events among their kinds: each
// event's part of the common columns, and each kind's own columns, as they
// were before compression.
func (t *tally) block(kinds []byte, sizes *[256]int, raw, stored int) {
	if raw == 0 {
		return
	}
	var count [256]int
	own := 0
	for _, k := range kinds {
		count[k]++
	}
	for _, n := range sizes {
		own += n
	}
	for k, n := range count {
		if n > 0 {
			share := float64(sizes[k]) + float64(raw-own)*float64(n)/float64(len(kinds))
			t[k].Events += uint64(n)
			t[k].Bytes += uint64(share*float64(stored)/float64(raw) + 0.5)
		}
	}
}

// lossKind is the kind whose events a KindLoss tells of, 0 when unknown.
func lossKind(e *Event) Kind {
	if k := e.V[LossKind]; k < uint64(len(Kinds)) {
		return Kind(k)
	}
	return KindInvalid
}

// totals returns what the trailer says of each kind.
func (w *Writer) totals() map[Kind]KindTotals {
	out := map[Kind]KindTotals{}
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	for k := range w.byKind {
		t := KindTotals{Events: w.sink.tally[k].Events, Bytes: w.sink.tally[k].Bytes, Lost: w.lost[k]}
		if t != (KindTotals{}) {
			out[Kind(k)] = t
		}
	}
	return out
}

// TableSizes says how many rows the tables of a capture have, row 0 not
// counted.
type TableSizes struct {
	Strings, Modules, Frames, Stacks, Tasks, Symbols int
}

// TableSizes returns the sizes of the tables as far as they could be read.
// Rows are numbered from 1 to the size, with holes where a block was damaged.
func (r *Reader) TableSizes() TableSizes {
	size := func(end uint32) int { return max(int(end)-1, 0) }
	t := &r.tables
	return TableSizes{
		Strings: size(t.strings.end()), Modules: size(t.modules.end()), Frames: size(t.frames.end()),
		Stacks: size(t.stacks.end()), Tasks: size(t.tasks.end()), Symbols: size(t.symbols.end()),
	}
}

// FrameIDs returns the rows of the frame table that are there, in order. Damage,
// or malice, can leave gaps of any size between them.
func (r *Reader) FrameIDs() iter.Seq[FrameID] {
	return func(yield func(FrameID) bool) {
		r.tables.frames.ids(func(id uint32) bool { return yield(FrameID(id)) })
	}
}

// ModuleIDs returns the rows of the module table that are there, in order.
func (r *Reader) ModuleIDs() iter.Seq[ModuleID] {
	return func(yield func(ModuleID) bool) {
		r.tables.modules.ids(func(id uint32) bool { return yield(ModuleID(id)) })
	}
}

// Size returns the length of the capture in bytes.
func (r *Reader) Size() int64 { return r.size }

// SymbolBytes returns how many bytes of the file the names of frames take, their
// copy included: functions, files and lines. It is their share of the blocks of
// tables, by what the rows take before compression.
func (r *Reader) SymbolBytes() int64 {
	var raw, stored, symbols int64
	for i := range r.blocks {
		if b := &r.blocks[i]; b.Type == BlockTables || b.Type == BlockCopy {
			raw += int64(b.RawLen)
			stored += headerSize + int64(b.StoredLen)
		}
	}
	seen := map[StringID]bool{0: true}
	name := func(id StringID) {
		if !seen[id] {
			seen[id] = true
			n := len(r.String(id))
			symbols += int64(n + uvarintLen(uint64(n)))
		}
	}
	for _, run := range r.tables.symbols.runs {
		for _, s := range run.rows {
			for _, v := range []uint64{uint64(s.frame), uint64(s.function), uint64(s.file), uint64(s.line), 0} {
				symbols += int64(uvarintLen(v))
			}
			name(s.function)
			name(s.file)
		}
	}
	for _, run := range r.tables.frames.runs {
		for _, f := range run.rows {
			name(f.function)
			name(f.file)
		}
	}
	copies := int64(1)
	for i := range r.blocks {
		if r.blocks[i].Type == BlockCopy {
			copies++
		}
	}
	if raw == 0 {
		return 0
	}
	return min(int64(float64(stored)*float64(symbols*copies)/float64(raw)), stored)
}
