package probe

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tcap-dev/tcap/capture/symbol"
)

// Limits on what is read of an ELF file, which may have been made to harm.
// All are far above what real files have.
const (
	maxSections = 1 << 17  // sections; -ffunction-sections objects have tens of thousands
	maxSegments = 1 << 12  // program headers
	maxTable    = 1 << 30  // bytes of one symbol or string table
	maxName     = 16 << 10 // bytes of one symbol name; C++ makes long ones
	maxNotes    = 1 << 20  // bytes of one note segment
	maxDynamic  = 1 << 20  // bytes of the dynamic segment
	maxNeeded   = 1 << 12  // DT_NEEDED entries
	maxPathLen  = 4 << 10  // bytes of an interpreter or library path
)

// ntGNUBuildID is NT_GNU_BUILD_ID of elf.h.
const ntGNUBuildID = 3

// debugDir is where distributions put separate debug files.
const debugDir = "/usr/lib/debug"

// ELF is a view of a 64-bit ELF executable or library.
type ELF struct {
	name string // for messages; "": path
	path string
	r    io.ReaderAt
	size int64
	file *elf.File

	debugDirs []string // looked at before debugDir
	unwinds   *bool    // see Unwinds; nil: not known yet

	closer io.Closer
}

// OpenELF opens the file at path.
func OpenELF(path string) (*ELF, error) {
	f, err := symbol.OpenRegular(path)
	if err != nil {
		return nil, fmt.Errorf("read ELF file: %w", err)
	}
	info, err := f.Stat()
	var e *ELF
	if err == nil {
		e, err = NewELF(f, info.Size(), path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	e.closer = f
	return e, nil
}

// NewELF reads the headers of an ELF file of size bytes. path is for messages
// and for finding a separate debug file.
func NewELF(r io.ReaderAt, size int64, path string) (e *ELF, err error) {
	// debug/elf meets foreign bytes first. It is bounded by the file's size
	// and fuzzed upstream; should it panic all the same, it ends here.
	defer func() {
		if p := recover(); p != nil {
			e, err = nil, fmt.Errorf("read ELF headers of %s: %v", path, p)
		}
	}()
	file, err := elf.NewFile(io.NewSectionReader(r, 0, size))
	if err != nil {
		var magic [4]byte
		if _, rerr := r.ReadAt(magic[:], 0); rerr != nil || string(magic[:]) != elf.ELFMAG {
			return nil, fmt.Errorf("read ELF headers of %s: it is no ELF program or library", path)
		}
		return nil, fmt.Errorf("read ELF headers of %s: %w", path, err)
	}
	if file.Class != elf.ELFCLASS64 {
		return nil, fmt.Errorf("read ELF headers of %s: 32-bit programs are not supported", path)
	}
	if len(file.Sections) > maxSections || len(file.Progs) > maxSegments {
		return nil, fmt.Errorf("read ELF headers of %s: %d sections and %d segments are too many",
			path, len(file.Sections), len(file.Progs))
	}
	return &ELF{path: path, r: r, size: size, file: file}, nil
}

// Close closes the file that OpenELF opened.
func (e *ELF) Close() error {
	if e.closer == nil {
		return nil
	}
	return e.closer.Close()
}

// Path returns the path given to OpenELF or NewELF.
func (e *ELF) Path() string { return e.path }

// Machine returns the processor architecture of the code.
func (e *ELF) Machine() elf.Machine { return e.file.Machine }

// read returns n bytes at a file offset, if they exist and n <= limit.
func (e *ELF) read(off, n uint64, limit uint64) ([]byte, error) {
	if n > limit {
		return nil, fmt.Errorf("%d bytes are more than the limit of %d", n, limit)
	}
	if off > uint64(e.size) || n > uint64(e.size)-off {
		return nil, fmt.Errorf("bytes 0x%x to 0x%x lie outside the file", off, off+n)
	}
	buf := make([]byte, n)
	if _, err := e.r.ReadAt(buf, int64(off)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf, nil
}

// Offset turns an address of the file's code into a file offset, by the
// executable PT_LOAD that holds it.
func (e *ELF) Offset(addr uint64) (uint64, bool) {
	for _, p := range e.file.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			off := p.Off + (addr - p.Vaddr)
			return off, off < uint64(e.size)
		}
	}
	return 0, false
}

// Code returns up to n bytes of code at a file offset, fewer where its segment
// ends.
func (e *ELF) Code(off uint64, n int) ([]byte, error) {
	for _, p := range e.file.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && off >= p.Off && off-p.Off < p.Filesz {
			left := min(p.Filesz-(off-p.Off), uint64(e.size)-min(off, uint64(e.size)))
			return e.read(off, min(left, uint64(n)), maxTable)
		}
	}
	return nil, fmt.Errorf("read code of %s: offset 0x%x is in no executable segment", e.path, off)
}

// BuildID returns the GNU build-id in hexadecimal, or "".
func (e *ELF) BuildID() string {
	for _, p := range e.file.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		data, err := e.read(p.Off, p.Filesz, maxNotes)
		if err != nil {
			continue
		}
		if id := e.findBuildID(data, p.Align); id != nil {
			return hex.EncodeToString(id)
		}
	}
	return ""
}

// findBuildID walks notes: sizes of name and descriptor, type, then both,
// padded to the segment's alignment.
func (e *ELF) findBuildID(data []byte, align uint64) []byte {
	if align != 8 {
		align = 4
	}
	pad := func(n uint64) uint64 { return (n + align - 1) &^ (align - 1) }
	for len(data) >= 12 {
		name, desc := uint64(e.file.ByteOrder.Uint32(data)), uint64(e.file.ByteOrder.Uint32(data[4:]))
		kind := e.file.ByteOrder.Uint32(data[8:])
		at := pad(12 + name)
		if at+desc > uint64(len(data)) {
			return nil
		}
		if kind == ntGNUBuildID && bytes.Equal(data[12:12+name], []byte("GNU\x00")) && desc > 1 && desc <= 64 {
			return data[at : at+desc]
		}
		data = data[min(pad(at+desc), uint64(len(data))):]
	}
	return nil
}

// Interp returns the path of the dynamic loader, or "" in a library or a
// static executable.
func (e *ELF) Interp() string {
	for _, p := range e.file.Progs {
		if p.Type == elf.PT_INTERP {
			data, err := e.read(p.Off, p.Filesz, maxPathLen)
			if err != nil {
				return ""
			}
			text, _, _ := strings.Cut(string(data), "\x00")
			return text
		}
	}
	return ""
}

// Dynamic is what the dynamic loader is told to find.
type Dynamic struct {
	Needed  []string // DT_NEEDED, in order
	RunPath []string // DT_RUNPATH, else DT_RPATH, split at colons, $ORIGIN kept
	SoName  string   // DT_SONAME
}

// Dynamic reads the dynamic segment. A file without one gives the zero value.
func (e *ELF) Dynamic() (Dynamic, error) {
	var d Dynamic
	for _, p := range e.file.Progs {
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		data, err := e.read(p.Off, p.Filesz, maxDynamic)
		if err != nil {
			return d, fmt.Errorf("read the dynamic segment of %s: %w", e.path, err)
		}
		return e.parseDynamic(data)
	}
	return d, nil
}

func (e *ELF) parseDynamic(data []byte) (Dynamic, error) {
	var d Dynamic
	var needed []uint64
	values := map[elf.DynTag]uint64{}
	for ; len(data) >= 16; data = data[16:] {
		tag, val := elf.DynTag(e.file.ByteOrder.Uint64(data)), e.file.ByteOrder.Uint64(data[8:])
		if tag == elf.DT_NULL {
			break
		}
		if tag == elf.DT_NEEDED && len(needed) < maxNeeded {
			needed = append(needed, val)
		}
		switch tag {
		case elf.DT_STRTAB, elf.DT_STRSZ, elf.DT_RUNPATH, elf.DT_RPATH, elf.DT_SONAME:
			values[tag] = val
		}
	}
	if values[elf.DT_STRTAB] == 0 {
		return d, nil
	}
	text := func(at uint64) string { return e.dynString(values[elf.DT_STRTAB], values[elf.DT_STRSZ], at) }
	for _, at := range needed {
		if name := text(at); name != "" {
			d.Needed = append(d.Needed, name)
		}
	}
	if at, ok := values[elf.DT_SONAME]; ok {
		d.SoName = text(at)
	}
	run, ok := values[elf.DT_RUNPATH]
	if !ok {
		run, ok = values[elf.DT_RPATH]
	}
	if ok {
		for _, dir := range strings.Split(text(run), ":") {
			if dir != "" {
				d.RunPath = append(d.RunPath, dir)
			}
		}
	}
	return d, nil
}

// dynString reads one string of the table at address strtab.
func (e *ELF) dynString(strtab, size, at uint64) string {
	if at >= size {
		return ""
	}
	for _, p := range e.file.Progs {
		if p.Type != elf.PT_LOAD || strtab < p.Vaddr || strtab-p.Vaddr >= p.Filesz {
			continue
		}
		return e.cString(p.Off+(strtab-p.Vaddr)+at, min(size-at, maxPathLen))
	}
	return ""
}

// cString reads a string of at most limit bytes at a file offset, or "".
func (e *ELF) cString(off, limit uint64) string {
	if off >= uint64(e.size) {
		return ""
	}
	data, err := e.read(off, min(limit, uint64(e.size)-off), limit)
	if err != nil {
		return ""
	}
	text, _, _ := strings.Cut(string(data), "\x00")
	return text
}

// SearchDebug has a separate debug file looked for below dirs first, then where
// distributions put them.
func (e *ELF) SearchDebug(dirs []string) { e.debugDirs = dirs }

// debugFile opens the separate debug file, or returns nil if there is none.
func (e *ELF) debugFile() *ELF {
	f, _ := symbol.DebugFile(e.file, e.Name(), append(slices.Clip(e.debugDirs), debugDir))
	if f == nil {
		return nil
	}
	if info, err := f.Stat(); err == nil {
		if d, err := NewELF(f, info.Size(), f.Name()); err == nil {
			d.closer = f
			return d
		}
	}
	f.Close()
	return nil
}
