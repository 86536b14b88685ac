package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Damage is a part of a capture that could not be read, and what is known of
// what was in it.
type Damage struct {
	Offset int64 // in the file, bytes
	Length int64 // bytes
	Block  BlockType
	Err    error

	// The events that are missing happened between these times: the greatest
	// time before the damage and the least after it (ns; 0 when there is
	// nothing on that side).
	From, To int64
	// Events is how many events are missing, -1 when nothing after the damage
	// tells.
	Events int64
}

// scan finds the blocks of a capture without its index: it walks from header
// to header, and searches for the next one where it finds none.
type scan struct {
	r    io.ReaderAt
	size int64

	blocks  []BlockInfo
	damage  []Damage
	checked int64 // bytes of payloads that resync has read
	failed  error // the last error of reading
	buf     []byte
	prev    []byte
}

// maxLeader is how far into a file the first block is searched for.
const maxLeader = 1<<20 + headerSize

func (s *scan) run() error {
	var h [headerSize]byte
	for off := int64(0); off < s.size; {
		n, err := s.r.ReadAt(h[:min(headerSize, s.size-off)], off)
		if n == headerSize || errors.Is(err, io.EOF) {
			err = nil
		}
		var b BlockInfo
		if err == nil {
			b, err = parseHeader(h[:n], off)
		} else {
			s.failed = fmt.Errorf("read block header at offset %d: %w", off, err)
		}
		if errors.Is(err, ErrVersion) && len(s.blocks) == 0 {
			return err
		}
		if err == nil && len(s.blocks) > 0 && b.Seq <= s.blocks[len(s.blocks)-1].Seq {
			err = fmt.Errorf("%w: block %d after block %d: another capture was appended", ErrMalformed, b.Seq, s.blocks[len(s.blocks)-1].Seq)
		}
		if err == nil && b.End() > s.size {
			err = fmt.Errorf("%v block of %d events: %w", b.Type, b.Events, ErrTruncated)
		}
		if err == nil {
			s.blocks = append(s.blocks, b)
			off = b.End()
			continue
		}
		if off, err = s.resync(off, b.Type, err); err != nil {
			return err
		}
	}
	if len(s.blocks) == 0 {
		return s.nothing()
	}
	return nil
}

// nothing is the error when there is no block.
func (s *scan) nothing() error {
	if s.failed != nil {
		return s.failed
	}
	return ErrNotCapture
}

// resync is called when there is no block at off. It returns the offset of the
// next one and notes the damage. When bytes are missing from the payload of
// the block before, the next header lies inside what should be that payload,
// so the search begins there.
func (s *scan) resync(off int64, typ BlockType, cause error) (int64, error) {
	from, minSeq := off, int64(-1)
	if n := len(s.blocks); n > 0 {
		last := s.blocks[n-1]
		minSeq = int64(last.Seq)
		// The bound is for files in which every header claims, falsely, a large
		// payload that holds the next header.
		if s.checked += int64(last.StoredLen); s.checked <= 4*s.size {
			if intact, err := checkPayload(s.r, &last, &s.buf); err != nil || !intact {
				from = last.Offset
			}
		}
	}
	limit := s.size
	if len(s.blocks) == 0 {
		limit = min(limit, maxLeader)
	}
	next, err := s.search(from+1, limit, minSeq)
	if err != nil {
		return 0, err
	}
	if next < off && from != off {
		s.blocks = s.blocks[:len(s.blocks)-1]
		off = from
	}
	if next < 0 {
		if len(s.blocks) == 0 {
			return 0, s.nothing()
		}
		next = s.size
	}
	s.damage = append(s.damage, Damage{Offset: off, Length: next - off, Block: typ, Err: cause})
	return next, nil
}

// search returns the offset of the first header in [from, limit) whose
// sequence number is above minSeq, or -1.
func (s *scan) search(from, limit, minSeq int64) (int64, error) {
	const (
		window = 256 << 10
		sector = 4 << 10 // what is skipped where the disk does not read
	)
	if s.prev == nil {
		s.prev = make([]byte, min(window, s.size))
	}
	for from < limit {
		n, err := s.r.ReadAt(s.prev[:min(int64(len(s.prev)), s.size-from)], from)
		if n < headerSize {
			if err != nil && !errors.Is(err, io.EOF) {
				s.failed = fmt.Errorf("search for a block from offset %d: %w", from, err)
				from += sector
				continue
			}
			return -1, nil
		}
		w := s.prev[:n]
		for at := 0; ; at++ {
			i := bytes.Index(w[at:], []byte(syncMark))
			if i < 0 || at+i+headerSize > n {
				break
			}
			at += i
			if b, err := parseHeader(w[at:], from+int64(at)); err == nil && int64(b.Seq) > minSeq && b.End() <= s.size {
				return from + int64(at), nil
			} else if errors.Is(err, ErrVersion) && len(s.blocks) == 0 {
				return 0, err
			}
		}
		from += int64(n - headerSize + 1)
	}
	return -1, nil
}
