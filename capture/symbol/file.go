package symbol

import (
	"debug/elf"
	"io"
	"os"
)

// ReadELF parses an ELF file's headers, within limits; see [debug/elf.NewFile].
func ReadELF(r io.ReaderAt) (*elf.File, error) { return readELF(r) }

// SectionData reads a section, decompressed, of at most limit bytes. A section
// that is absent or holds no bytes in this file gives nil.
func SectionData(f *elf.File, name string, limit int64) ([]byte, error) {
	return sectionData(f, name, limit)
}

// Section reads a section, decompressed, of at most limit bytes.
func Section(s *elf.Section, limit int64) ([]byte, error) { return readSection(s, limit) }

// DebugFile opens the separate debug file of a module, by build-id below dirs or
// by .gnu_debuglink beside path and below dirs. It returns nils when there is
// none; the caller closes the file.
func DebugFile(f *elf.File, path string, dirs []string) (*os.File, *elf.File) {
	return debugFile(f, buildID(f), path, dirs)
}

// GoFrames is what the table of a Go program (.gopclntab) tells of its stacks.
type GoFrames struct{ table *goTable }

// GoFrame is one function's stack at one address.
type GoFrame struct {
	// Size is how far the stack pointer is below its value at the function's
	// entry, in bytes.
	Size int64
	// Outermost is said of functions that no other called, such as
	// runtime.goexit.
	Outermost bool
	// Switches is said of functions that go to another stack.
	Switches bool
}

// ReadGoFrames reads the table, of at most limit bytes. It returns nil for what
// is no Go program.
func ReadGoFrames(f *elf.File, limit int64) (*GoFrames, error) {
	table, err := readGoTable(f, limit)
	if table == nil {
		return nil, err
	}
	return &GoFrames{table}, err
}

// Frame returns what is known of the code at addr.
func (g *GoFrames) Frame(addr uint64) (GoFrame, bool) {
	t := g.table
	if t.count == 0 || addr >= t.entry(t.count) {
		return GoFrame{}, false
	}
	f, start := t.function(addr)
	if f == nil {
		return GoFrame{}, false
	}
	const sizesAt, outermost, switches = 16, 1, 2 // pcsp in _func; abi.FuncFlagTopFrame, FuncFlagSPWrite
	size, ok := t.value(t.uint(f[sizesAt:], 4), start, addr)
	if !ok || size < 0 {
		return GoFrame{}, false
	}
	frame := GoFrame{Size: int64(size)}
	if t.flags != 0 && t.flags < len(f) {
		frame.Outermost, frame.Switches = f[t.flags]&outermost != 0, f[t.flags]&switches != 0
	}
	return frame, true
}

// Bytes is the memory that the table takes.
func (g *GoFrames) Bytes() int64 { return g.table.size }
