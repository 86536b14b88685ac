package format

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// An Amender copies a capture and adds rows to its tables, such as names that
// were found after the recording. What there is of the file stays as it is, byte
// for byte, up to the tables' copy, the index and the end, which are made anew.
// Rows are added by the methods that a [Writer] has, too, and keep their numbers:
// a row that is in the capture already is not added again.
type Amender struct {
	interner
	r        *Reader
	blocks   []BlockInfo // that are kept
	size     int64       // their bytes
	copied   []byte      // payload of the tables' copy, if there is one
	fresh    [][]byte    // payloads of tables blocks
	added    []byte      // sections of all of them, for the copy
	edit     editor      // nil if what is kept stays as it is
	redacted *Redacted   // what cannot be read is not kept; nil: it is
	ends     map[StackID]StackEnd
	counts   map[string]uint64 // events by how their stacks end; nil if they are to stay
}

// Amend returns an Amender of a capture. The error is [ErrMalformed] where a block of
// the tables is damaged: nobody knows what numbers its rows have taken.
func (r *Reader) Amend() (*Amender, error) {
	a := &Amender{interner: newInterner(), r: r}
	if err := a.keep(); err != nil {
		return nil, fmt.Errorf("amend capture: %w", err)
	}
	a.interner.full = a.cut
	if err := a.interner.load(&r.tables); err != nil {
		return nil, fmt.Errorf("amend capture: %w", err)
	}
	return a, nil
}

// keep decides what of the file stays: what comes before its end, if it has
// one, and otherwise all.
func (a *Amender) keep() error {
	r := a.r
	var bufs buffers
	for i := range r.blocks {
		if b := &r.blocks[i]; b.Type == BlockCopy {
			if payload, err := r.payload.read(b, &bufs); err == nil {
				a.copied = bytes.Clone(payload)
			}
		}
	}
	for _, d := range r.Damage() {
		tail := r.trailer == nil && d.Offset+d.Length == r.size
		if a.copied == nil && !tail && (d.Block == BlockTables || d.Block == BlockInvalid) {
			return fmt.Errorf("%w: %v block at offset %d is damaged, and with it rows of the tables", ErrMalformed, d.Block, d.Offset)
		}
	}
	a.blocks, a.size = r.blocks, r.size
	if r.trailer == nil && a.copied == nil {
		return nil
	}
	for n := len(a.blocks); n > 0; n-- {
		switch a.blocks[n-1].Type {
		case BlockHeader, BlockCopy, BlockIndex, BlockEnd:
			if n > 1 {
				continue
			}
		}
		a.blocks, a.size = a.blocks[:n], a.blocks[n-1].End()
		break
	}
	return nil
}

// cut makes a payload of the rows that wait.
func (a *Amender) cut() {
	var payload []byte
	for table := range a.rows {
		payload = a.rows[table].appendFresh(payload, table)
	}
	if len(payload) > 0 {
		a.fresh = append(a.fresh, payload)
		if len(a.added) < maxRawLen {
			a.added = append(a.added, payload...)
		}
	}
}

// WriteTo writes the amended capture and returns how many bytes it has. It may
// be called once.
func (a *Amender) WriteTo(w io.Writer) (int64, error) {
	a.cut()
	s, err := a.sink(w)
	if err != nil {
		return 0, err
	}
	defer s.zstd.Close()
	if err := a.copy(w, s); err != nil {
		return s.written.Load(), fmt.Errorf("copy capture: %w", err)
	}
	for _, payload := range a.fresh {
		s.block(BlockInfo{Type: BlockTables, Codec: codecZstd}, payload)
	}
	if a.r.trailer != nil {
		a.finish(s)
	}
	if p := s.sticky.Load(); p != nil {
		return s.written.Load(), *p
	}
	return s.written.Load(), nil
}

// copy writes what is kept.
func (a *Amender) copy(w io.Writer, s *sink) error {
	if a.edit != nil {
		return a.copyEdited(s)
	}
	n, err := io.Copy(w, io.NewSectionReader(a.r.src, 0, a.size))
	s.written.Store(n)
	if err == nil && n < a.size {
		err = io.ErrUnexpectedEOF
	}
	s.goOn(a.blocks)
	if a.size > a.blocks[len(a.blocks)-1].End() {
		s.next++ // that of the block that was cut off
	}
	return err
}

// goOn makes the next block follow others.
func (s *sink) goOn(blocks []BlockInfo) {
	s.index = append([]BlockInfo(nil), blocks...)
	last := &blocks[len(blocks)-1]
	s.events = last.EventsBefore + uint64(last.Events)
	s.next = last.Seq + 1
}

// sink returns a sink to write the capture to.
func (a *Amender) sink(w io.Writer) (*sink, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("amend capture: %w", err)
	}
	return &sink{w: w, sticky: &atomic.Pointer[error]{}, zstd: enc}, nil
}

// finish writes what makes the end of the file a clean one.
func (a *Amender) finish(s *sink) {
	var bufs buffers
	for i := range a.r.blocks {
		if b := &a.r.blocks[i]; b.Type == BlockHeader {
			payload, err := a.r.payload.read(b, &bufs)
			if err != nil {
				continue // its copy may be intact
			}
			if a.edit != nil {
				payload, _ = a.edit(b, payload)
			}
			s.block(BlockInfo{Type: BlockHeader}, payload)
			break
		}
	}
	if a.copied != nil && len(a.copied)+len(a.added) <= maxRawLen {
		s.block(BlockInfo{Type: BlockCopy, Codec: codecZstd}, append(a.copied, a.added...))
	}
	t := *a.r.trailer
	if a.counts != nil {
		t.StackEnds = a.counts
	}
	s.foot(t)
}
