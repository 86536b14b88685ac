package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNotFound says that no file with a module's build-id is there.
var ErrNotFound = errors.New("no file with this build-id")

// A Mismatch is a file that has a module's name but is another: naming code by
// it would be guessing.
type Mismatch struct {
	File    string
	BuildID string // its own, "" when it has none
}

func (m Mismatch) String() string {
	if m.BuildID == "" {
		return m.File + " has no build-id"
	}
	return m.File + " has build-id " + m.BuildID
}

// Find looks below Options.DebugDirs, and last at the module's own path (or, for
// the vdso, at this process's), for what names the code of a module of a capture:
// its debug file, or the module itself. Only the build-id counts. address turns file offsets into virtual
// addresses, as the recorder knew them, or reports that it did not; a debug file
// without the code does not tell any more. Resolve of the result takes the
// capture's offsets.
//
// Below a directory D it tries D/.build-id/ab/cdef.debug and the like, the
// module's path and its file's name, each with .debug and without, and the same in
// D/usr/lib/debug, where a package that was unpacked into D has it.
func (r *Resolver) Find(path, buildID string, address func(uint64) (uint64, bool)) (*Module, []Mismatch, error) {
	id, err := idOf(path, buildID)
	if err != nil {
		return nil, nil, err
	}
	var best *findable
	var code []segment
	var others []Mismatch
	for _, place := range r.places(path, id) {
		f, mismatch := examine(place, id)
		if mismatch != nil && place != ownPlace(path) {
			others = append(others, *mismatch)
		}
		if f == nil {
			continue
		}
		if f.hasCode && code == nil {
			code = f.segs
		}
		if best == nil || f.rank > best.rank {
			best = f
		}
	}
	if best == nil {
		return nil, others, ErrNotFound
	}
	m := r.Module(func() (*os.File, error) { return OpenRegular(best.path) }, best.path)
	if best.hasCode {
		return m, others, nil
	}
	if zero, ok := address(0); ok {
		m.segs = []segment{{vaddr: zero, filesz: 1 << 62, exec: true}}
	} else if m.segs = code; code == nil {
		return nil, others, fmt.Errorf("module %s: %s has no code, and the capture does not say where the code was; the module itself is needed", path, best.path)
	}
	return m, others, nil
}

// FindCode looks in the same places for the module itself, with its code and what
// tells how to unwind that, and opens it.
func (r *Resolver) FindCode(path, buildID string) (*os.File, []Mismatch, error) {
	id, err := idOf(path, buildID)
	if err != nil {
		return nil, nil, err
	}
	var others []Mismatch
	for _, place := range r.places(path, id) {
		f, mismatch := examine(place, id)
		if mismatch != nil && place != ownPlace(path) {
			others = append(others, *mismatch)
		}
		if f != nil && f.hasCode {
			file, err := OpenRegular(f.path)
			return file, others, err
		}
	}
	return nil, others, ErrNotFound
}

// idOf reads the build-id of a capture's module.
func idOf(path, buildID string) ([]byte, error) {
	id, err := hex.DecodeString(buildID)
	if err != nil || len(id) < 2 || len(id) > maxBuildID {
		return nil, fmt.Errorf("module %s: it has no build-id to be known by", path)
	}
	return id, nil
}

// places lists where to look, the likeliest first.
func (r *Resolver) places(path string, id []byte) []string {
	var list []string
	base := filepath.Base(path)
	for _, dir := range r.opts.DebugDirs {
		for _, root := range []string{dir, filepath.Join(dir, "usr/lib/debug")} {
			byID := buildIDPath(root, id)
			list = append(list, byID, byID[:len(byID)-len(".debug")])
			if filepath.IsAbs(path) {
				list = append(list, filepath.Join(root, path+".debug"), filepath.Join(root, path))
			}
			if base != "/" && base != "." && base != ".." {
				list = append(list, filepath.Join(root, base+".debug"), filepath.Join(root, base))
			}
		}
	}
	if own := ownPlace(path); own != "" {
		list = append(list, own)
	}
	return list
}

// ownPlace is where a module would be on this machine, "" if it cannot be.
func ownPlace(path string) string {
	if path == VDSOName {
		if f, err := VDSO(); err == nil {
			return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		}
	}
	if filepath.IsAbs(path) {
		return path
	}
	return ""
}

// A findable is a file with the right build-id.
type findable struct {
	path    string
	segs    []segment
	hasCode bool
	rank    int // what it tells
}

// examine looks at a file, which may not be there. A mismatch is another
// module's.
func examine(path string, id []byte) (*findable, *Mismatch) {
	file, err := OpenRegular(path)
	if err != nil {
		return nil, nil
	}
	defer file.Close()
	f, err := readELF(file)
	if err != nil {
		return nil, nil
	}
	if own := buildID(f); !bytes.Equal(own, id) {
		return nil, &Mismatch{File: path, BuildID: hexID(own)}
	}
	found := &findable{path: path, segs: segments(f), hasCode: hasCode(f)}
	has := func(name string) bool {
		s := f.Section(name)
		return s != nil && s.Type != elf.SHT_NOBITS && s.Size > 0
	}
	switch {
	case has(".debug_info"):
		found.rank = 3
	case has(".symtab") || has(".gopclntab"):
		found.rank = 2
	case found.hasCode:
		found.rank = 1
	}
	return found, nil
}

// hasCode tells a module from a debug file, whose sections of code have no bytes.
func hasCode(f *elf.File) bool {
	any := false
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR != 0 {
			if s.Type != elf.SHT_NOBITS {
				return true
			}
			any = true
		}
	}
	return !any
}
