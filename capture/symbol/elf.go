package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

const (
	ntGNUBuildID   = 3       // NT_GNU_BUILD_ID, elf.h
	maxNoteBytes   = 1 << 20 // a note segment holds tens to hundreds of bytes
	maxBuildID     = 64      // SHA-1 has 20; --build-id=0x... may have more
	maxSections    = 1 << 17 // -ffunction-sections objects have tens of thousands
	maxSmallBytes  = 1 << 20 // .gnu_debuglink and the like
	maxProgHeaders = 1 << 12
)

// errTooLarge is wrapped where a limit of [Options] kept data from being read.
var errTooLarge = errors.New("larger than the limit")

// readELF parses an ELF file's headers. debug/elf is bounded by the file, but
// it is the outermost parser of foreign bytes, so its panics end here.
func readELF(r io.ReaderAt) (f *elf.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("read ELF headers: %v", p)
		}
	}()
	f, err = elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("read ELF headers: %w", err)
	}
	if len(f.Sections) > maxSections || len(f.Progs) > maxProgHeaders {
		return nil, fmt.Errorf("read ELF headers: %d sections, %d segments: %w", len(f.Sections), len(f.Progs), errTooLarge)
	}
	return f, nil
}

// sectionData reads a section, decompressed, of at most limit bytes. A section
// that is absent or holds no bytes in this file gives nil.
func sectionData(f *elf.File, name string, limit int64) ([]byte, error) {
	s := f.Section(name)
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size == 0 {
		return nil, nil
	}
	return readSection(s, limit)
}

func readSection(s *elf.Section, limit int64) (data []byte, err error) {
	if limit < 0 || s.Size > uint64(limit) {
		return nil, fmt.Errorf("section %s of %d bytes: %w", s.Name, s.Size, errTooLarge)
	}
	defer func() {
		if p := recover(); p != nil {
			data, err = nil, fmt.Errorf("section %s: %v", s.Name, p)
		}
	}()
	data, err = s.Data()
	if err != nil {
		return nil, fmt.Errorf("section %s: %w", s.Name, err)
	}
	return data, nil
}

// buildID returns the GNU build-id. It looks at segments first, which stay when
// section headers are stripped, then at the section, which is what debug files
// keep.
func buildID(f *elf.File) []byte {
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > maxNoteBytes {
			continue
		}
		data := make([]byte, p.Filesz)
		if n, err := p.ReadAt(data, 0); err == nil || err == io.EOF {
			if id := findBuildID(data[:n], f.ByteOrder, p.Align); id != nil {
				return id
			}
		}
	}
	data, err := sectionData(f, ".note.gnu.build-id", maxNoteBytes)
	if err != nil {
		return nil
	}
	return findBuildID(data, f.ByteOrder, 4)
}

// findBuildID walks notes: name size, descriptor size, type, then both padded
// to the segment's alignment (4, or 8 for .note.gnu.property).
func findBuildID(data []byte, order binary.ByteOrder, align uint64) []byte {
	if align != 8 {
		align = 4
	}
	for len(data) >= 12 {
		nameSize, descSize := uint64(order.Uint32(data)), uint64(order.Uint32(data[4:]))
		kind := order.Uint32(data[8:])
		descAt := (12 + nameSize + align - 1) &^ (align - 1)
		end := (descAt + descSize + align - 1) &^ (align - 1)
		if descAt+descSize > uint64(len(data)) {
			return nil
		}
		if kind == ntGNUBuildID && bytes.Equal(data[12:12+nameSize], []byte("GNU\x00")) && descSize > 0 && descSize <= maxBuildID {
			return bytes.Clone(data[descAt : descAt+descSize])
		}
		data = data[min(end, uint64(len(data))):]
	}
	return nil
}

func hexID(id []byte) string { return hex.EncodeToString(id) }

// debugLink returns the file name and CRC-32 of .gnu_debuglink.
func debugLink(f *elf.File) (name string, crc uint32, ok bool) {
	data, err := sectionData(f, ".gnu_debuglink", maxSmallBytes)
	if err != nil {
		return "", 0, false
	}
	end := bytes.IndexByte(data, 0)
	if end <= 0 {
		return "", 0, false
	}
	at := (end + 4) &^ 3
	if at+4 > len(data) {
		return "", 0, false
	}
	return string(data[:end]), f.ByteOrder.Uint32(data[at:]), true
}

// segment is the part of a PT_LOAD header that maps file offsets to addresses.
type segment struct {
	off, vaddr, filesz uint64
	exec               bool
}

// CodeSegment finds the first executable segment of an ELF file: its address
// and its file offset; false when there is none, or r is no ELF file.
func CodeSegment(r io.ReaderAt) (addr, offset uint64, ok bool) {
	f, err := readELF(r)
	if err != nil {
		return 0, 0, false
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			return p.Vaddr, p.Off, true
		}
	}
	return 0, 0, false
}

func segments(f *elf.File) []segment {
	var segs []segment
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Filesz > 0 && p.Off+p.Filesz >= p.Off {
			segs = append(segs, segment{p.Off, p.Vaddr, p.Filesz, p.Flags&elf.PF_X != 0})
		}
	}
	return segs
}

// addressOf turns a file offset into a virtual address. The kernel maps whole
// pages, so an offset may lie just outside its segment, in bytes that belong to
// a neighbour; an executable segment that holds the offset itself wins, then
// any that does, then the executable one whose pages hold it.
func addressOf(segs []segment, off uint64) (uint64, bool) {
	const page = 64 << 10 // the largest of arm64 and ppc64
	best, found := uint64(0), false
	for _, s := range segs {
		if off >= s.off && off-s.off < s.filesz {
			if s.exec {
				return off - s.off + s.vaddr, true
			}
			best, found = off-s.off+s.vaddr, true
		}
	}
	if found {
		return best, true
	}
	for _, s := range segs {
		start, end := s.off&^(page-1), s.off+s.filesz+page-1
		if s.exec && off >= start && off < end&^(page-1) {
			return off - s.off + s.vaddr, true
		}
	}
	return 0, false
}
