package format

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// countingReader counts what is read.
type countingReader struct {
	r     io.ReaderAt
	bytes int64
	calls int
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.bytes += int64(n)
	c.calls++
	return n, err
}

// TestOpenLarge opens a file of 10 GB, nearly all of it a hole where blocks of
// events would be: opening must not touch them.
func TestOpenLarge(t *testing.T) {
	const blocks, size = 40000, 250 << 10
	f, err := os.Create(filepath.Join(t.TempDir(), "large.tcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	var off int64
	var index []BlockInfo
	write := func(typ BlockType, payload []byte) {
		b := BlockInfo{Offset: off, Type: typ, Major: Major, Seq: uint32(len(index)), EventsBefore: blocks * DefaultBlockEvents, RawLen: len(payload), StoredLen: len(payload), crc: checksum(payload)}
		if typ == BlockHeader {
			b.EventsBefore = 0
		}
		if _, err := f.WriteAt(append(b.appendHeader(nil), payload...), off); err != nil {
			t.Fatal(err)
		}
		index = append(index, b)
		off = b.End()
	}
	write(BlockHeader, []byte(`{"host":"large"}`))
	for i := range blocks {
		b := BlockInfo{
			Offset: off, Type: BlockEvents, Codec: codecZstd, Major: Major, Seq: uint32(len(index)), EventsBefore: uint64(i) * DefaultBlockEvents,
			Events: DefaultBlockEvents, RawLen: 2 * size, StoredLen: size, FirstTime: int64(i) * 1e6, LastTime: int64(i+1) * 1e6, kindBits: 2, crc: uint32(i) * 77777,
		}
		if _, err := f.WriteAt(b.appendHeader(nil), off); err != nil {
			t.Fatal(err)
		}
		index = append(index, b)
		off = b.End()
	}
	at := off
	write(BlockIndex, encodeIndex(nil, index))
	write(BlockEnd, append(strconv.AppendInt([]byte(`{"index_offset_bytes":`), at, 10), '}'))

	src := &countingReader{r: f}
	start := time.Now()
	r, err := NewReader(src, off)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	t.Logf("%d MB opened in %v with %d reads of %d bytes", off>>20, time.Since(start), src.calls, src.bytes)
	if len(r.Blocks()) != len(index) || r.Header().Host != "large" || off < 9<<30 {
		t.Errorf("%d blocks of %d in %d bytes", len(r.Blocks()), len(index), off)
	}
	if src.bytes > 4<<20 || src.calls > 100 {
		t.Errorf("opening took %d reads of %d bytes", src.calls, src.bytes)
	}

	// Without its end the headers are walked, and only they.
	src.bytes, src.calls, start = 0, 0, time.Now()
	walked, err := NewReader(src, off-1)
	if err != nil {
		t.Fatal(err)
	}
	defer walked.Close()
	t.Logf("walked in %v with %d reads of %d bytes", time.Since(start), src.calls, src.bytes)
	if len(walked.Blocks()) != len(index)-1 || src.bytes > 16<<20 {
		t.Errorf("%d blocks of %d, %d bytes read", len(walked.Blocks()), len(index)-1, src.bytes)
	}
}

// TestNestedClaims is a file in which each header claims all that follows as
// its payload: finding that out must not take time quadratic in the file.
func TestNestedClaims(t *testing.T) {
	const n = 20000
	file := BlockInfo{Type: BlockHeader, Major: Major, StoredLen: 2, RawLen: 2, crc: checksum([]byte("{}"))}.bytes([]byte("{}"))
	for i := range n {
		b := BlockInfo{Type: BlockEvents, Major: Major, Seq: uint32(i + 1), StoredLen: (n - i - 1) * headerSize, crc: 1}
		file = append(file, b.bytes(nil)...)
	}
	file = append(file, "junk"...)
	src := &countingReader{r: bytes.NewReader(file)}
	r, err := NewReader(src, int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if src.bytes > 20*int64(len(file)) {
		t.Errorf("%d bytes read of a file of %d", src.bytes, len(file))
	}
}

func (b BlockInfo) bytes(payload []byte) []byte { return append(b.appendHeader(nil), payload...) }

func TestStacks(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{}, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := w.Frame(Frame{Function: "f"})
	deep := StackID(0)
	for range 2 * maxStack {
		deep = w.Stack(deep, f)
	}
	self := w.Stack(deep+1, f) // its own parent
	if again := w.Stack(0, f); again != 1 {
		t.Errorf("an equal stack is row %d", again)
	}
	inlined := w.Frame(Frame{Module: w.Module(Module{Path: "/m"}), Offset: 9})
	w.Symbolize(inlined, []Symbol{{Function: "old"}})
	stack := w.Stack(1, inlined)
	w.Symbolize(inlined, []Symbol{{Function: "a", Line: 1}, {Function: "b", Line: 2}, {Function: "c", File: "c.c", Line: 3}})
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for id, want := range map[StackID]int{0: 0, 1: 1, 100: 100, deep: maxStack, self: 1, stack: 4, 1 << 31: 0} {
		if n := len(r.Stack(id, nil)); n != want {
			t.Errorf("stack %d has %d frames, want %d", id, n, want)
		}
	}
	var names []string
	for _, f := range r.Stack(stack, nil) {
		names = append(names, f.Function+strconv.FormatBool(f.Inlined))
	}
	if !slices.Equal(names, []string{"atrue", "btrue", "cfalse", "ffalse"}) {
		t.Errorf("frames %v", names)
	}
	if f := r.Frame(inlined); f.Function != "c" || f.File != "c.c" || f.Offset != 9 || f.Module != 1 {
		t.Errorf("frame %+v", f)
	}
	if r.Task(77) != (Task{}) || r.Module(77) != (Module{}) || r.Frame(77) != (Frame{}) || r.StackNode(1<<31) != (StackNode{}) || r.String(1<<31) != "" {
		t.Error("rows that are not there are not zero")
	}
}

// failingReader fails as a disk with a bad sector does.
type failingReader struct {
	io.ReaderAt
	from, to int64
}

var errSector = errors.New("input/output error")

func (f failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off < f.to && off+int64(len(p)) > f.from {
		return 0, errSector
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestBadSector(t *testing.T) {
	file, events, blocks := smallCapture(t)
	i := slices.IndexFunc(blocks, func(b BlockInfo) bool { return b.Type == BlockEvents })
	b := blocks[i]
	r, err := NewReader(failingReader{bytes.NewReader(file), b.Offset + 70, b.Offset + 71}, int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, failed := 0, 0
	for _, err := range r.Events(Filter{}) {
		switch {
		case err == nil:
			n++
		case errors.Is(err, errSector):
			failed++
		default:
			t.Error(err)
		}
	}
	if n != len(events)-b.Events || failed != 1 {
		t.Errorf("%d events, %d errors", n, failed)
	}
	if _, err := NewReader(failingReader{bytes.NewReader(file), 0, int64(len(file))}, int64(len(file))); !errors.Is(err, errSector) {
		t.Errorf("a disk that reads nothing: %v", err)
	}
}
