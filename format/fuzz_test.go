package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// fuzzMemory is the limit given to readers of hostile input.
const fuzzMemory = 8 << 20

// allocated runs f and returns the bytes that it allocated.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// readHostile reads all that there is in what may be a capture.
func readHostile(in []byte, limit int64) {
	r, err := NewReader(bytes.NewReader(in), int64(len(in)), WithMaxMemory(limit), WithWorkers(1))
	if err != nil {
		return
	}
	defer r.Close()
	var buf []byte
	for e, err := range r.Events(Filter{}) {
		if err == nil {
			buf = Format(buf[:0], r, e)
		}
	}
	for s, err := range r.Snapshots() {
		if err == nil && len(s.Memory) > len(in)<<16 {
			panic("a snapshot without bytes")
		}
	}
	_, _ = r.Validate()
}

func FuzzReader(f *testing.F) {
	file, _ := randomCapture(f, 60, 20, 1)
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add(file[:headerSize])
	f.Add([]byte(syncMark))
	for seed := range uint64(3) {
		part, _ := randomCapture(f, 5, 3, seed)
		f.Add(part)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		readHostile(in, fuzzMemory)
		// The fuzzer does not find checksums: give it blocks that have them.
		readHostile(framed(in), fuzzMemory)
	})
}

// framed takes in for type, codec, counts and payload of blocks and adds what
// makes them pass for some.
func framed(in []byte) []byte {
	var out []byte
	for seq := uint32(0); len(in) >= 8 && seq < 64; seq++ {
		b := BlockInfo{
			Type: BlockType(in[0] % 11), Codec: in[1] % 3, Major: Major, Seq: seq,
			Events: int(binary.LittleEndian.Uint16(in[2:])), RawLen: int(binary.LittleEndian.Uint16(in[4:])),
		}
		n := min(int(binary.LittleEndian.Uint16(in[6:])), len(in)-8)
		payload := in[8 : 8+n]
		if b.Codec == codecNone {
			b.RawLen = n
		}
		b.StoredLen, b.crc = n, checksum(payload)
		out = append(b.appendHeader(out), payload...)
		in = in[8+n:]
	}
	return out
}

// TestSmallFileNeedsLittleMemory gives the reader files of at most 1 KiB whose
// claims are as large as the format allows.
func TestSmallFileNeedsLittleMemory(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	block := func(seq uint32, typ BlockType, events, rawLen int, raw []byte) []byte {
		b := BlockInfo{Type: typ, Codec: codecZstd, Major: Major, Seq: seq, Events: events, RawLen: rawLen}
		payload := enc.EncodeAll(raw, nil)
		b.StoredLen, b.crc = len(payload), checksum(payload)
		return append(b.appendHeader(nil), payload...)
	}
	constant := func(kind Kind, field byte, typ FieldType, rows int, v byte) []byte {
		out := []byte{byte(kind), field, byte(typ), encConst}
		out = binary.AppendUvarint(out, uint64(rows))
		return append(out, 1, v)
	}
	header := block(0, BlockHeader, 0, 2, []byte("{}"))
	columns := constant(0, fieldKind, TypeUint, maxEvents, byte(KindMap))
	columns = append(columns, constant(0, fieldTask, TypeUint, maxEvents, 0)...)
	columns = append(columns, constant(KindMap, fieldTime, TypeInt, maxEvents, 0)...)
	for field := range byte(MaxFields) {
		columns = append(columns, constant(KindMap, field, TypeUint, maxEvents, 1)...)
	}
	rows := func(table byte, n int) []byte {
		body := make([]byte, n)
		out := binary.AppendUvarint([]byte{table, 1}, uint64(n))
		out = append(out, 1)
		return append(binary.AppendUvarint(out, uint64(n)), body...)
	}
	for name, file := range map[string][]byte{
		"claims":  append(header, block(1, BlockTables, 0, maxRawLen, nil)...),
		"zeros":   append(header, block(1, BlockTables, 0, 7<<20, make([]byte, 7<<20))...),
		"events":  append(header, block(1, BlockEvents, maxEvents, len(columns), columns)...),
		"strings": append(header, block(1, BlockTables, 0, 4<<20, rows(tableStrings, 4<<20-10))...),
		"tasks":   append(header, block(1, BlockTables, 0, 4<<20, rows(tableTasks, 4<<20-10))...),
		"index":   append(header, block(1, BlockIndex, 0, 4<<20, make([]byte, 4<<20))...),
		"json":    append(header, block(1, BlockSchema, 0, 1<<20, bytes.Repeat([]byte("["), 1<<20))...),
	} {
		if len(file) > 1<<10 {
			t.Errorf("%s: the file has %d bytes", name, len(file))
			continue
		}
		if n := allocated(func() { readHostile(file, fuzzMemory) }); n > 2*fuzzMemory {
			t.Errorf("%s: %d bytes allocated for %d bytes of file, limit %d", name, n, len(file), fuzzMemory)
		}
	}
}

func FuzzColumns(f *testing.F) {
	f.Add(byte(TypeUint), []byte{1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0})
	f.Add(byte(TypeAddr), bytes.Repeat([]byte{0x10, 0x20, 0, 0, 0, 0x55, 0, 0}, 40))
	f.Add(byte(TypeInt), bytes.Repeat([]byte{0xff}, 64))
	f.Add(byte(TypeBlock), bytes.Repeat([]byte{8, 7, 6, 5, 4, 3, 2, 1}, 3))
	f.Fuzz(func(t *testing.T, typ byte, in []byte) {
		fieldType := FieldType(typ % (byte(TypeModule) + 1))
		vals := make([]uint64, len(in)/8)
		for i := range vals {
			vals[i] = binary.LittleEndian.Uint64(in[8*i:])
		}
		// Garbage in place of a column: an error or values, nothing else.
		for enc := range byte(8) {
			_ = decodeColumn(make([]uint64, len(vals)), enc|typ&transMask, in)
		}
		if len(vals) == 0 {
			return
		}
		var enc columnEncoder
		enc.append(KindAlloc, 3, fieldType, transformOf(fieldType, vals), vals)
		c := cursor{b: enc.dst}
		kind, field, gotType, how := c.byte(), c.byte(), c.byte(), c.byte()
		rows := c.count(len(vals))
		body := c.bytes(c.count(math.MaxInt32))
		if c.err != nil || len(c.b) != 0 || kind != byte(KindAlloc) || field != 3 || gotType != byte(fieldType) || rows != len(vals) {
			t.Fatalf("column header: %v, %d bytes left, kind %d field %d type %d rows %d", c.err, len(c.b), kind, field, gotType, rows)
		}
		got := make([]uint64, rows)
		if err := decodeColumn(got, how, body); err != nil {
			t.Fatalf("encoding %#x: %v", how, err)
		}
		for i := range vals {
			if got[i] != vals[i] {
				t.Fatalf("row %d: got %#x, want %#x (encoding %#x)", i, got[i], vals[i], how)
			}
		}
	})
}

// FuzzEvents writes heap events made of the input and reads them back.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{1, 0x10, 8, 1, 0x20, 8, 3, 0x10, 0, 1, 0x10, 8, 2, 0x20, 0x10})
	f.Add(bytes.Repeat([]byte{1, 0x11, 200, 3, 0x11, 1}, 30))
	f.Add(bytes.Repeat([]byte{2, 0xff, 0xff, 1, 0xff, 0}, 30))
	f.Fuzz(func(t *testing.T, in []byte) {
		var buf bytes.Buffer
		w, err := NewWriter(&buf, Header{}, WriterOptions{BlockEvents: 64, Level: zstd.SpeedFastest})
		if err != nil {
			t.Fatal(err)
		}
		var want []Event
		for i := 0; i+3 <= len(in) && len(want) < 1000; i += 3 {
			a, b := uint64(in[i+1]), uint64(in[i+2])
			if a == 0xff {
				a = math.MaxUint64 - b // beyond what the reuse prediction can code
			}
			task := w.Task(Task{Pid: uint32(in[i] >> 6), Tid: uint32(in[i] >> 5), Space: uint32(in[i] >> 6)})
			e := Event{Kind: Kind(1 + in[i]%3), Task: task, Time: int64(i) * int64(b) << (in[i] % 40), Seq: uint64(len(want))}
			switch e.Kind {
			case KindAlloc:
				e.V = [MaxFields]uint64{a, b << (in[i] % 50)}
			case KindRealloc:
				e.V = [MaxFields]uint64{b, a, a * b, 0, FnRealloc, a}
			case KindFree:
				e.V = [MaxFields]uint64{a, FnFree}
			}
			want = append(want, e)
			if err := w.Append(&e); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(Trailer{}); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, buf.Bytes())
		if len(got) != len(want) {
			t.Fatalf("read %d of %d events", len(got), len(want))
		}
		for i := range want {
			if !sameEvent(got[i], want[i]) {
				t.Fatalf("event %d: got %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add(soundTrace)
	f.Add(`1.5 1/2@3 "a b" heap.alloc addr=1 size=2 stack="x;y";#z fn=malloc space=9`)
	f.Add("-1.000000001 0/0 - proc.exec path=\"\\x1b\\xff\" space=1\n#\n")
	f.Fuzz(func(t *testing.T, text string) {
		var buf bytes.Buffer
		w, err := NewWriter(&buf, Header{Start: ClockAnchor{Mono: 5e9}}, WriterOptions{Level: zstd.SpeedFastest})
		if err != nil {
			t.Fatal(err)
		}
		_ = Parse(w, strings.NewReader(text)) // what came before the error is there
		if err := w.Close(Trailer{}); err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		once := formatText(t, r)
		for _, c := range once {
			if c < ' ' && c != '\n' || c == 0x7f {
				t.Fatalf("control character in %q", once)
			}
		}
		again, err := parseText(t, once) // times are relative: another start gives the same text
		if err != nil {
			t.Fatalf("own text is refused: %v\n%s", err, once)
		}
		if twice := formatText(t, again); twice != once {
			t.Fatalf("text is not stable:\n%q\n%q", once, twice)
		}
	})
}

func FuzzTables(f *testing.F) {
	f.Add(appendSection(nil, tableStrings, 1, 2, []byte("\x01a\x02bc")))
	f.Add(appendSection(nil, tableTasks, 5, 1, []byte{1, 2, 3, 4, 0, 6}))
	f.Add(appendSection(appendSection(nil, tableStacks, 3, 1, []byte{1, 1}), tableStacks, 1, 2, []byte{0, 1, 1, 1}))
	f.Fuzz(func(t *testing.T, in []byte) {
		tabs := tables{budget: 1 << 20}
		err := tabs.load(in)
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLimit) {
			t.Fatalf("error of another kind: %v", err)
		}
		tabs.indexEnds()
		tabs.joinEqual(0)
		tabs.indexSymbols()
		r := Reader{tables: tabs}
		for id := range uint32(20) {
			_ = r.Stack(StackID(id), nil)
			_ = r.Task(TaskID(id))
			_ = r.Frames(FrameID(id), nil)
		}
		runs := tabs.strings.runs
		for i := 1; i < len(runs); i++ {
			if runs[i].first <= runs[i-1].first+uint32(len(runs[i-1].rows))-1 {
				t.Fatalf("runs overlap: %v", runs)
			}
		}
	})
}
