package format

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// The index lists every block before it, in file order:
//
//	type <1>, codec <1>, gap <uvarint> (bytes since the block before), stored length <uvarint>,
//	raw length <uvarint>, CRC32C of payload <4>, events <uvarint>, least time <varint> (since
//	that of the block before), time span <uvarint>, kinds <uvarint>, tasks <uvarint> (their
//	number + 1, 0 for "many"), then each task <uvarint> (difference from the one before)
//
// Sequence numbers and ordinals follow from the order. A first uvarint says
// how many entries there are.
func encodeIndex(dst []byte, blocks []BlockInfo) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(blocks)))
	var end, first int64
	for i := range blocks {
		b := &blocks[i]
		dst = append(dst, byte(b.Type), b.Codec)
		dst = binary.AppendUvarint(dst, uint64(b.Offset-end))
		dst = binary.AppendUvarint(dst, uint64(b.StoredLen))
		dst = binary.AppendUvarint(dst, uint64(b.RawLen))
		dst = binary.LittleEndian.AppendUint32(dst, b.crc)
		dst = binary.AppendUvarint(dst, uint64(b.Events))
		dst = binary.AppendVarint(dst, b.FirstTime-first)
		dst = binary.AppendUvarint(dst, uint64(b.LastTime-b.FirstTime))
		dst = binary.AppendUvarint(dst, uint64(b.kindBits))
		end, first = b.End(), b.FirstTime
		if b.tasks == nil {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(len(b.tasks))+1)
		var last TaskID
		for _, t := range b.tasks {
			dst = binary.AppendUvarint(dst, uint64(t-last))
			last = t
		}
	}
	return dst
}

// minIndexEntry is the least that an entry takes, bytes.
const minIndexEntry = 14

// ofEnd is how many blocks the index does not list: itself and the end.
const ofEnd = 2

// decodeIndex reads an index of at most maxBlocks blocks, which must end at or
// before limit. The list has room for the [ofEnd] that it leaves out.
func decodeIndex(payload []byte, limit int64, maxBlocks int) ([]BlockInfo, error) {
	c := cursor{b: payload}
	n := c.count(min(len(payload)/minIndexEntry, maxBlocks))
	blocks := make([]BlockInfo, 0, n+ofEnd)
	var end, first int64
	var row [maxBlockTasks]TaskID
	var known []TaskID // those of the block before, which mostly are those of the next
	var events uint64
	for i := range n {
		b := BlockInfo{Type: BlockType(c.byte()), Codec: c.byte(), Major: Major, Seq: uint32(i), EventsBefore: events}
		b.Offset = end + int64(min(c.uvarint(), 1<<62))
		b.StoredLen, b.RawLen = c.count(maxStoredLen), c.count(maxRawLen)
		if crc := c.bytes(4); crc != nil {
			b.crc = binary.LittleEndian.Uint32(crc)
		}
		b.Events = c.count(maxEvents)
		b.FirstTime = first + c.varint()
		b.LastTime = b.FirstTime + int64(c.uvarint())
		b.kindBits = uint32(c.uvarint())
		b.Kinds = kindSetFromBits(b.kindBits)
		if tasks := c.count(maxBlockTasks + 1); tasks > 0 {
			list := row[:tasks-1]
			var last TaskID
			for j := range list {
				last += TaskID(c.uvarint())
				list[j] = last
			}
			if known == nil || !slices.Equal(known, list) {
				known = append(make([]TaskID, 0, len(list)), list...)
			}
			b.tasks = known
		}
		if c.err != nil {
			return nil, fmt.Errorf("index entry %d: %w", i, c.err)
		}
		if b.Offset < end || b.End() > limit {
			return nil, fmt.Errorf("index entry %d: %w: block beyond the index", i, ErrMalformed)
		}
		end, first = b.End(), b.FirstTime
		events += uint64(b.Events)
		blocks = append(blocks, b)
	}
	if len(c.b) != 0 {
		return nil, fmt.Errorf("index: %w: %d bytes after the last entry", ErrMalformed, len(c.b))
	}
	return blocks, nil
}
