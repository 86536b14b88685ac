package format

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// openIndexed takes the blocks from the index and reports whether the end of
// the file led to an intact one. Where it does not, or the disk fails to read
// there, walking the blocks may still find them.
func (r *Reader) openIndexed() bool {
	end, ok := r.findEnd()
	if !ok {
		return false
	}
	var bufs buffers
	payload, err := r.payload.read(&end, &bufs)
	if err != nil {
		return false
	}
	var at struct {
		Index int64 `json:"index_offset_bytes"`
	}
	if json.Unmarshal(payload, &at) != nil || at.Index <= 0 || at.Index > end.Offset-headerSize {
		return false
	}
	var h [headerSize]byte
	if _, err := r.src.ReadAt(h[:], at.Index); err != nil {
		return false
	}
	index, err := parseHeader(h[:], at.Index)
	if err != nil || index.Type != BlockIndex || index.End() != end.Offset {
		return false
	}
	if payload, err = r.payload.read(&index, &bufs); err != nil {
		return false
	}
	blocks, err := decodeIndex(payload, index.Offset, int(r.maxMemory/8/blockInfoCost))
	if err != nil || len(blocks) != int(index.Seq) {
		return false
	}
	// An index does not tell versions. The last writer's is in the header of the index, the
	// first one's in that of the first block.
	minor := max(index.Minor, end.Minor)
	if _, err := r.src.ReadAt(h[:], 0); err == nil {
		if first, err := parseHeader(h[:], 0); err == nil {
			minor = max(minor, first.Minor)
		}
	}
	for i := range blocks {
		blocks[i].Minor = minor
	}
	r.blocks = append(blocks, index, end)
	return true
}

// findEnd returns the end block, if the file ends with one.
func (r *Reader) findEnd() (BlockInfo, bool) {
	tail := make([]byte, min(r.size, maxTrailer+headerSize))
	off := r.size - int64(len(tail))
	if n, _ := r.src.ReadAt(tail, off); n < len(tail) {
		return BlockInfo{}, false
	}
	for at := len(tail); ; {
		if at = bytes.LastIndex(tail[:at], []byte(syncMark)); at < 0 {
			return BlockInfo{}, false
		}
		b, err := parseHeader(tail[at:], off+int64(at))
		if err == nil && b.Type == BlockEnd && b.End() == r.size {
			return b, true
		}
	}
}

// blockInfoCost is the memory that knowing of a block takes, bytes.
const blockInfoCost = 160

// loadFacts reads the header, the schema and the end.
func (r *Reader) loadFacts() {
	var done [BlockEnd + 1]bool
	load := map[BlockType]func([]byte) error{
		BlockHeader: func(p []byte) error { return json.Unmarshal(p, &r.header) },
		BlockSchema: func(p []byte) (err error) {
			kinds, err := decodeSchema(p)
			if err == nil {
				r.kinds = kinds
			}
			return err
		},
		BlockEnd: func(p []byte) error {
			var t Trailer
			if err := json.Unmarshal(p, &t); err != nil {
				return err
			}
			delete(t.Extra, indexKey)
			r.trailer = &t
			return nil
		},
	}
	var bufs buffers
	for i := range r.blocks {
		b := &r.blocks[i]
		if f := load[b.Type]; f != nil && !done[b.Type] {
			p, err := r.payload.read(b, &bufs)
			if err == nil {
				if err = f(p); err != nil {
					err = fmt.Errorf("%w: %w", ErrMalformed, err)
				}
			}
			if done[b.Type] = err == nil; err != nil {
				r.damaged(b, err)
			}
		}
	}
}

// loadTables reads the rows of the tables: from the copy at the end of the
// file if that is intact, else from every block that has some.
func (r *Reader) loadTables() {
	defer r.tables.indexSymbols()
	defer func() {
		r.tables.indexEnds()
		r.tables.joinEqual(maxKnownStacks)
	}()
	var bufs buffers
	for i := len(r.blocks) - 1; i >= 0; i-- {
		if b := &r.blocks[i]; b.Type == BlockCopy {
			if r.loadRows(b, &bufs) {
				return
			}
		}
	}
	for i := range r.blocks {
		if b := &r.blocks[i]; b.Type == BlockTables {
			r.loadRows(b, &bufs)
		}
	}
}

func (r *Reader) loadRows(b *BlockInfo, bufs *buffers) bool {
	p, err := r.payload.read(b, bufs)
	if err == nil {
		err = r.tables.load(p)
	}
	if err != nil {
		r.damaged(b, err)
	}
	return err == nil
}
