package format

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// readStored reads the payload of b as it is in the file, into buf if that is
// large enough, and checks it.
func readStored(r io.ReaderAt, b *BlockInfo, buf []byte) ([]byte, error) {
	buf = slices.Grow(buf[:0], b.StoredLen)[:b.StoredLen]
	if n, err := r.ReadAt(buf, b.Offset+headerSize); n < len(buf) {
		if err == nil || errors.Is(err, io.EOF) {
			err = ErrTruncated
		}
		return buf, err
	}
	if checksum(buf) != b.crc {
		return buf, ErrChecksum
	}
	return buf, nil
}

// checkPayload reports whether the payload of b is intact.
func checkPayload(r io.ReaderAt, b *BlockInfo, buf *[]byte) (bool, error) {
	var err error
	*buf, err = readStored(r, b, *buf)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, ErrChecksum) || errors.Is(err, ErrTruncated) {
		return false, nil
	}
	return false, err
}

// payloads reads and decompresses payloads. It may be used concurrently.
type payloads struct {
	r     io.ReaderAt
	zstd  *zstd.Decoder
	limit int64 // of a payload, bytes
}

func newPayloads(r io.ReaderAt, workers int, limit int64) (*payloads, error) {
	limit = max(min(limit, maxRawLen), 64<<10)
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(limit)))
	if err != nil {
		return nil, fmt.Errorf("begin decompression: %w", err)
	}
	return &payloads{r: r, zstd: d, limit: limit}, nil
}

// buffers are what reading a payload needs, kept from block to block.
type buffers struct{ stored, raw []byte }

// read returns the payload of b, which is valid until bufs is used again.
func (p *payloads) read(b *BlockInfo, bufs *buffers) ([]byte, error) {
	if int64(b.RawLen) > p.limit || int64(b.StoredLen) > p.limit+1024 {
		return nil, fmt.Errorf("%w: payload of %d bytes", ErrLimit, b.RawLen)
	}
	if b.isLeftOut() {
		return nil, errLeftOut
	}
	switch b.Type {
	case BlockHeader, BlockSchema, BlockEnd:
		if b.RawLen > maxJSON {
			return nil, fmt.Errorf("%w: %d bytes of JSON", ErrLimit, b.RawLen)
		}
	}
	var err error
	if bufs.stored, err = readStored(p.r, b, bufs.stored); err != nil {
		return nil, err
	}
	switch b.Codec {
	case codecNone:
		if b.RawLen != b.StoredLen {
			return nil, fmt.Errorf("%w: stored length is not the raw length", ErrMalformed)
		}
		return bufs.stored, nil
	case codecZstd:
		bufs.raw = slices.Grow(bufs.raw[:0], b.RawLen)
		raw, err := p.zstd.DecodeAll(bufs.stored, bufs.raw[:0:b.RawLen])
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrMalformed, err)
		}
		if len(raw) != b.RawLen {
			return nil, fmt.Errorf("%w: raw length %d is not %d", ErrMalformed, len(raw), b.RawLen)
		}
		return raw, nil
	default:
		return nil, fmt.Errorf("%w: codec %d", errUnknown, b.Codec)
	}
}

func (p *payloads) close() { p.zstd.Close() }
