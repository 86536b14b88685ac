package format

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Major and Minor are the version of the format that this package writes. A
// reader accepts every minor version of its major version and skips what it
// does not know.
const (
	Major = 1
	Minor = 1
)

// Every block begins with this header, little-endian:
//
//	 0  +--------------------------------------------------+
//	    | sync mark: 89 'T' 'C' 'A' 'P' 0D 0A 1A           |
//	 8  +-----------+-----------+-----------+--------------+
//	    | type <1>  | codec <1> | major <1> | minor <1>    |
//	12  +-----------+-----------+-----------+--------------+
//	    | sequence number <4>                              |
//	16  +--------------------------------------------------+
//	    | events before this block <8>                     |
//	24  +--------------------------------------------------+
//	    | events in this block <4> | raw length <4>        |
//	32  +--------------------------+-----------------------+
//	    | stored length <4>        | CRC32C of payload <4> |
//	40  +--------------------------+-----------------------+
//	    | least time <8>                                   |
//	48  +--------------------------------------------------+
//	    | greatest time <8>                                |
//	56  +--------------------------+-----------------------+
//	    | kinds <4>                | CRC32C of 0..59 <4>   |
//	64  +--------------------------+-----------------------+
//	    | payload, stored length bytes                     |
//	    +--------------------------------------------------+
const (
	headerSize = 64
	syncMark   = "\x89TCAP\r\n\x1a"
)

// Limits of the format. A block that exceeds one is not read.
const (
	maxRawLen    = 64 << 20 // decompressed payload, bytes
	maxStoredLen = 64 << 20 // payload in the file, bytes
	maxEvents    = 1 << 18  // events in a block
	maxJSON      = 1 << 20  // header, schema and end payloads, bytes
	maxString    = 64 << 10 // a string of the string table, bytes
	maxRows      = 1 << 28  // rows of a table

	// A block of events has at most this many raw bytes, and as many more per
	// event.
	maxEventsRaw = 64 << 10
	maxEventRaw  = 256
)

// A BlockType says what a block holds.
type BlockType uint8

// Block types. Their numbers are on the wire.
const (
	BlockInvalid   BlockType = iota
	BlockHeader              // facts about the recording: JSON
	BlockSchema              // the table of kinds: JSON
	BlockTables              // rows of the tables
	BlockEvents              // events, as columns
	BlockIndex               // where every block before it is
	BlockEnd                 // the clean end: JSON
	BlockCopy                // every row of the tables once more, at the end of the file
	BlockSnapshots           // copies of stacks that are still to be unwound
)

var blockNames = [...]string{"unknown", "header", "schema", "tables", "events", "index", "end", "copy", "snapshots"}

// String names the type.
func (t BlockType) String() string {
	if int(t) < len(blockNames) {
		return blockNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Codecs of payloads.
const (
	codecNone = 0
	codecZstd = 1
)

// BlockInfo is what a block's header says of it.
type BlockInfo struct {
	Offset       int64     // of the header in the file, bytes
	Type         BlockType //
	Codec        uint8     // 0 stored, 1 zstd
	Major, Minor uint8     // format version of the writer; by the index, the latest that is known of the file
	Seq          uint32    // blocks are numbered from 0
	EventsBefore uint64    // ordinal of the first event, or of the next one
	Events       int       // number of events
	RawLen       int       // decompressed payload, bytes
	StoredLen    int       // payload in the file, bytes
	FirstTime    int64     // least event time, CLOCK_MONOTONIC ns
	LastTime     int64     // greatest event time, ns
	Kinds        KindSet   // kinds of the events

	crc      uint32
	kindBits uint32
	tasks    []TaskID // of the events, ascending; nil when unknown
}

// End returns the offset of the first byte after the block.
func (b *BlockInfo) End() int64 { return b.Offset + headerSize + int64(b.StoredLen) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC32C of b.
func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// appendHeader appends the block's 64-byte header.
func (b *BlockInfo) appendHeader(buf []byte) []byte {
	le := binary.LittleEndian
	start := len(buf)
	buf = append(buf, syncMark...)
	buf = append(buf, byte(b.Type), b.Codec, b.Major, b.Minor)
	buf = le.AppendUint32(buf, b.Seq)
	buf = le.AppendUint64(buf, b.EventsBefore)
	buf = le.AppendUint32(buf, uint32(b.Events))
	buf = le.AppendUint32(buf, uint32(b.RawLen))
	buf = le.AppendUint32(buf, uint32(b.StoredLen))
	buf = le.AppendUint32(buf, b.crc)
	buf = le.AppendUint64(buf, uint64(b.FirstTime))
	buf = le.AppendUint64(buf, uint64(b.LastTime))
	buf = le.AppendUint32(buf, b.kindBits)
	return le.AppendUint32(buf, checksum(buf[start:]))
}

// parseHeader reads the 64-byte header at offset off of the file. It tells a
// header from other bytes by the sync mark and the checksum.
func parseHeader(h []byte, off int64) (BlockInfo, error) {
	le := binary.LittleEndian
	if len(h) < headerSize {
		return BlockInfo{}, ErrTruncated
	}
	h = h[:headerSize]
	if string(h[:8]) != syncMark {
		return BlockInfo{}, fmt.Errorf("%w: no sync mark", ErrMalformed)
	}
	if checksum(h[:60]) != le.Uint32(h[60:]) {
		return BlockInfo{}, fmt.Errorf("header: %w", ErrChecksum)
	}
	b := BlockInfo{
		Offset: off, Type: BlockType(h[8]), Codec: h[9], Major: h[10], Minor: h[11],
		Seq: le.Uint32(h[12:]), EventsBefore: le.Uint64(h[16:]),
		FirstTime: int64(le.Uint64(h[40:])), LastTime: int64(le.Uint64(h[48:])),
		crc: le.Uint32(h[36:]), kindBits: le.Uint32(h[56:]),
	}
	if b.Major > Major {
		return b, fmt.Errorf("%w: %d.%d, this program reads up to %d.x", ErrVersion, b.Major, b.Minor, Major)
	}
	events, raw, stored := le.Uint32(h[24:]), le.Uint32(h[28:]), le.Uint32(h[32:])
	if stored > maxStoredLen || raw > maxRawLen || events > maxEvents || b.EventsBefore > 1<<62 {
		return b, fmt.Errorf("header: %w: %d events, %d bytes, %d stored", ErrLimit, events, raw, stored)
	}
	b.Events, b.RawLen, b.StoredLen = int(events), int(raw), int(stored)
	b.Kinds = kindSetFromBits(b.kindBits)
	return b, nil
}

// kindBit is the bit of k in a header's kinds; kinds from 31 on share one.
func kindBit(k Kind) uint32 { return 1 << min(k, 31) }

func kindSetFromBits(bits uint32) KindSet {
	s := KindSet{uint64(bits &^ (1 << 31))}
	if bits>>31 != 0 {
		s[0] |= 1<<64 - 1<<31
		s[1], s[2], s[3] = ^uint64(0), ^uint64(0), ^uint64(0)
	}
	return s
}

// A KindSet is a set of event kinds. The zero value is the empty set, which
// filters take for all kinds.
type KindSet [4]uint64

// NewKindSet returns the set of the given kinds.
func NewKindSet(kinds ...Kind) KindSet {
	var s KindSet
	for _, k := range kinds {
		s.Add(k)
	}
	return s
}

// Add adds k.
func (s *KindSet) Add(k Kind) { s[k>>6] |= 1 << (k & 63) }

// Has reports whether k is in the set.
func (s KindSet) Has(k Kind) bool { return s[k>>6]>>(k&63)&1 != 0 }

// Empty reports whether the set has no kind.
func (s KindSet) Empty() bool { return s == KindSet{} }

// Intersects reports whether the sets share a kind.
func (s KindSet) Intersects(t KindSet) bool {
	return s[0]&t[0]|s[1]&t[1]|s[2]&t[2]|s[3]&t[3] != 0
}
