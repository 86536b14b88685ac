package symbol

import (
	"bytes"
	"debug/elf"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxChecksummed bounds the debug file whose CRC is computed: reading it is the
// only work here that grows with a file's size.
const maxChecksummed = 4 << 30

// debugFile opens the separate debug file of a module: by build-id, then by
// .gnu_debuglink in the places where gdb looks
// (https://sourceware.org/gdb/current/onlinedocs/gdb/Separate-Debug-Files.html).
// Neither matters unless build-id or CRC agree. It returns nils when there is none.
func debugFile(f *elf.File, id []byte, path string, dirs []string) (*os.File, *elf.File) {
	if len(id) >= 2 {
		for _, dir := range dirs {
			if file, parsed := openDebug(buildIDPath(dir, id), id); file != nil {
				return file, parsed
			}
		}
	}
	name, crc, ok := debugLink(f)
	if !ok || strings.ContainsRune(name, '/') || name == "." || name == ".." {
		return nil, nil
	}
	home := filepath.Dir(path)
	places := []string{filepath.Join(home, name), filepath.Join(home, ".debug", name)}
	for _, dir := range dirs {
		places = append(places, filepath.Join(dir, home, name))
	}
	for _, place := range places {
		if place == path || !filepath.IsAbs(place) {
			continue
		}
		file, parsed := openDebug(place, nil)
		if file == nil {
			continue
		}
		if sum, ok := checksum(file); ok && sum == crc {
			return file, parsed
		}
		file.Close()
	}
	return nil, nil
}

func buildIDPath(dir string, id []byte) string {
	name := hexID(id)
	return filepath.Join(dir, ".build-id", name[:2], name[2:]+".debug")
}

// openDebug opens a debug file; id, when given, must be its build-id.
func openDebug(path string, id []byte) (*os.File, *elf.File) {
	file, err := OpenRegular(path)
	if err != nil {
		return nil, nil
	}
	parsed, err := readELF(file)
	if err != nil || id != nil && !bytes.Equal(buildID(parsed), id) {
		file.Close()
		return nil, nil
	}
	return file, parsed
}

func checksum(f *os.File) (uint32, bool) {
	hash := crc32.NewIEEE()
	n, err := io.Copy(hash, io.NewSectionReader(f, 0, maxChecksummed+1))
	return hash.Sum32(), err == nil && n <= maxChecksummed
}
