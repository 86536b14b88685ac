package symbol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// maxDictionary bounds the memory of xz decoding; xz -9 uses 64 MiB.
const maxDictionary = 64 << 20

var errXZ = errors.New("not an xz stream of one LZMA2 block")

// unxz decompresses the first block of an xz stream, which holds all of a
// .gnu_debugdata section. The xz package itself allocates whatever dictionary
// the file asks for, up to 4 GiB, so the container is taken apart here (the
// .xz file format 1.2.1, sections 2.1.1 and 3.1) and only its LZMA2 decoder is
// used.
func unxz(data []byte, limit int64) ([]byte, error) {
	const streamHeader = 12
	if len(data) < streamHeader+8 || !bytes.HasPrefix(data, []byte("\xfd7zXZ\x00")) {
		return nil, errXZ
	}
	block := data[streamHeader:]
	size := (int(block[0]) + 1) * 4
	if block[0] == 0 || size > len(block) {
		return nil, errXZ
	}
	header, flags := block[2:size-4], block[1]
	for _, present := range []byte{0x40, 0x80} { // compressed, uncompressed size
		if flags&present == 0 {
			continue
		}
		_, n := binary.Uvarint(header)
		if n <= 0 {
			return nil, errXZ
		}
		header = header[n:]
	}
	const lzma2 = 0x21
	if flags&3 != 0 || len(header) < 3 || header[0] != lzma2 || header[1] != 1 {
		return nil, errXZ
	}
	dictionary, err := lzma.DecodeDictCap(header[2])
	if err != nil {
		return nil, fmt.Errorf("xz dictionary: %w", err)
	}
	if dictionary > maxDictionary {
		return nil, fmt.Errorf("xz dictionary of %d bytes: %w", dictionary, errTooLarge)
	}
	r, err := lzma.Reader2Config{DictCap: int(max(dictionary, lzma.MinDictCap))}.NewReader2(bytes.NewReader(block[size:]))
	if err != nil {
		return nil, fmt.Errorf("xz: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("xz: %w", err)
	}
	if int64(len(out)) > limit {
		return nil, fmt.Errorf("xz: %w", errTooLarge)
	}
	return out, nil
}
