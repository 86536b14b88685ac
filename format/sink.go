package format

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// A sink turns builders into blocks of the file. It is the goroutine of a
// Writer, and after that ended, the Writer itself.
type sink struct {
	w      io.Writer
	jobs   chan *builder
	free   chan<- *builder
	done   chan struct{}
	sticky *atomic.Pointer[error]

	zstd   *zstd.Encoder
	cols   columnEncoder
	base   int64 // of the capture in the file, bytes
	out    []byte
	header []byte // JSON, for the copy at the end
	next   uint32 // sequence number

	written atomic.Int64
	mu      sync.Mutex // guards what Stats reads
	index   []BlockInfo
	tally   tally
	events  uint64
}

func newSink(w io.Writer, h Header, level zstd.EncoderLevel, free chan<- *builder, sticky *atomic.Pointer[error]) (*sink, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithAllLitEntropyCompression(true), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("begin capture: %w", err)
	}
	s := &sink{w: w, jobs: make(chan *builder, builders), free: free, done: make(chan struct{}), sticky: sticky, zstd: enc}
	if s.header, err = json.Marshal(h); err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	if len(s.header) > maxJSON {
		return nil, fmt.Errorf("encode header: %w: %d bytes", ErrLimit, len(s.header))
	}
	if f, ok := w.(io.Seeker); ok {
		if at, err := f.Seek(0, io.SeekCurrent); err == nil {
			s.base = at
		}
	}
	schema, err := encodeSchema(Kinds)
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	s.block(BlockInfo{Type: BlockHeader}, s.header)
	s.block(BlockInfo{Type: BlockSchema, Codec: codecZstd}, schema)
	if p := sticky.Load(); p != nil {
		return nil, *p
	}
	return s, nil
}

// run writes blocks until the Writer closes jobs.
func (s *sink) run() {
	defer close(s.done)
	for b := range s.jobs {
		s.write(b)
		if b.flush != nil {
			close(b.flush)
		}
		s.free <- b
	}
}

func (s *sink) write(b *builder) {
	if len(b.tables) > 0 {
		s.block(BlockInfo{Type: BlockTables, Codec: codecZstd}, b.tables)
	}
	if len(b.snapshots) > 0 {
		s.block(BlockInfo{Type: BlockSnapshots, Codec: codecZstd}, b.snapshots)
	}
	if len(b.kinds) == 0 {
		return
	}
	info := BlockInfo{Type: BlockEvents, Codec: codecZstd}
	b.describe(&info)
	var sizes [256]int
	b.encode(&s.cols, &sizes)
	s.block(info, s.cols.dst, s.cols.cuts...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sticky.Load() == nil {
		s.tally.block(b.kinds, &sizes, len(s.cols.dst), s.index[len(s.index)-1].StoredLen+headerSize)
	}
}

// block writes one block. After an error it does nothing. At the cuts, offsets
// in the payload, compression begins with new statistics.
func (s *sink) block(info BlockInfo, payload []byte, cuts ...int) {
	if s.sticky.Load() != nil {
		return
	}
	info.Major, info.Minor = Major, Minor
	info.Offset, info.Seq = s.written.Load(), s.next
	info.RawLen = len(payload)
	if info.Type != BlockEvents {
		info.EventsBefore = s.events
	}
	s.out = append(s.out[:0], make([]byte, headerSize)...)
	if info.Codec == codecZstd {
		s.compress(payload, cuts)
	} else {
		s.out = append(s.out, payload...)
	}
	info.StoredLen = len(s.out) - headerSize
	info.crc = checksum(s.out[headerSize:])
	info.appendHeader(s.out[:0])
	n, err := s.w.Write(s.out)
	if err == nil && n < len(s.out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		err = fmt.Errorf("write %v block at offset %d: %w", info.Type, info.Offset, err)
		s.sticky.Store(&err)
		return
	}
	s.written.Add(int64(n))
	s.next++
	s.mu.Lock()
	s.index = append(s.index, info)
	s.events += uint64(info.Events)
	s.mu.Unlock()
}

// compress appends the payload to out as one zstd frame.
func (s *sink) compress(payload []byte, cuts []int) {
	if len(cuts) == 0 {
		s.out = s.zstd.EncodeAll(payload, s.out)
		return
	}
	// Writes to and from memory do not fail.
	s.zstd.Reset((*appender)(&s.out))
	at := 0
	for _, cut := range cuts {
		_, _ = s.zstd.Write(payload[at:cut])
		_ = s.zstd.Flush()
		at = cut
	}
	_, _ = s.zstd.Write(payload[at:])
	_ = s.zstd.Close()
}

// An appender is a slice of bytes as an io.Writer.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// end writes what makes the end of the file a clean one.
func (s *sink) end(rows *[tableCount]tableRows, t Trailer) {
	defer s.zstd.Close()
	mark, blocks := s.written.Load(), len(s.index)
	s.block(BlockInfo{Type: BlockHeader}, s.header)
	s.copyTables(rows)
	s.foot(t)
	failed := s.sticky.Load()
	if failed == nil || !s.rewind(mark, blocks) {
		return
	}
	// The disk is full, perhaps. What followed the last whole block is of no
	// use; without it, and without copies, there may be room for the index.
	s.sticky.Store(nil)
	s.foot(t)
	if s.sticky.Load() != nil {
		s.rewind(mark, blocks)
	}
	s.sticky.Store(failed)
}

// foot writes the index and the end.
func (s *sink) foot(t Trailer) {
	index := s.written.Load()
	s.block(BlockInfo{Type: BlockIndex, Codec: codecZstd}, encodeIndex(nil, s.index))
	t.Extra = maps.Clone(t.Extra)
	if t.Extra == nil {
		t.Extra = map[string]json.RawMessage{}
	}
	t.Extra[indexKey] = strconv.AppendInt(nil, index, 10)
	trailer, err := json.Marshal(t)
	if err == nil && len(trailer) > maxTrailer {
		err = fmt.Errorf("%w: %d bytes", ErrLimit, len(trailer))
	}
	if err != nil {
		err = fmt.Errorf("encode trailer: %w", err)
		s.sticky.CompareAndSwap(nil, &err)
	}
	s.block(BlockInfo{Type: BlockEnd}, trailer)
}

// indexKey is the key of the end block that tells where the index is.
const indexKey = "index_offset_bytes"

// maxTrailer bounds the JSON of the end block, so that a reader finds it with
// one read at the end of the file.
const maxTrailer = 60 << 10

// rewind cuts the file at mark, the end of one of its blocks, if its kind can.
func (s *sink) rewind(mark int64, blocks int) bool {
	f, ok := s.w.(interface {
		io.Seeker
		Truncate(size int64) error
	})
	if !ok {
		return false
	}
	s.written.Store(mark)
	s.next -= uint32(len(s.index) - blocks)
	s.index = s.index[:blocks]
	end := s.base + mark
	if err := f.Truncate(end); err != nil {
		return false
	}
	at, err := f.Seek(end, io.SeekStart)
	return err == nil && at == end
}

// copyTables writes every row once more, when that is little, so that a
// damaged block of tables costs no name.
func (s *sink) copyTables(rows *[tableCount]tableRows) {
	raw := 0
	for table := range rows {
		if raw += len(rows[table].all); rows[table].many {
			return
		}
	}
	if limit := max(64<<10, s.written.Load()/20); raw == 0 || raw > maxCopied || int64(raw/3) > limit {
		return
	}
	payload := make([]byte, 0, raw+64*tableCount)
	for table := range rows {
		if t := &rows[table]; t.next > 1 {
			payload = appendSection(payload, table, 1, t.next-1, t.all)
		}
	}
	s.block(BlockInfo{Type: BlockCopy, Codec: codecZstd}, payload)
}
