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

// DebugFile opens the separate debug file of a module, by build-id below dirs or
// by .gnu_debuglink beside path and below dirs. It returns nils when there is
// none; the caller closes the file.
func DebugFile(f *elf.File, path string, dirs []string) (*os.File, *elf.File) {
	return debugFile(f, buildID(f), path, dirs)
}
