package symbol

import (
	"debug/elf"
	"path/filepath"

	"github.com/tcap-dev/tcap/capture/symbol/internal/srcline"
)

// splitFiles finds what -gsplit-dwarf left out of a module or its debug file: a
// package beside it, called as it is with .dwp behind, or the compiler's own .dwo
// files. Both are told by the unit's id, so that a place is no proof.
type splitFiles struct {
	path  string // of the file with the skeletons
	dirs  []string
	room  int64 // bytes that may still be read
	tried bool
	dwp   *srcline.Package
}

// open is an [srcline.Opener].
func (s *splitFiles) open(name, dir string, id uint64) (srcline.Sections, bool) {
	if !s.tried {
		s.tried = true
		s.openPackage()
	}
	if s.dwp != nil {
		if sections, ok := s.dwp.Unit(id); ok {
			return sections, true
		}
	}
	for _, place := range s.places(name, dir) {
		if sections, _, ok := s.read(place); ok {
			return sections, true
		}
	}
	return srcline.Sections{}, false
}

// places lists where a .dwo file may be: where the compiler wrote it, beside
// the module, below the directories of debug files.
func (s *splitFiles) places(name, dir string) []string {
	home := filepath.Dir(s.path)
	list := []string{name, filepath.Join(dir, name), filepath.Join(home, name), filepath.Join(home, filepath.Base(name))}
	for _, d := range s.dirs {
		list = append(list, filepath.Join(d, filepath.Base(name)))
		if filepath.IsAbs(dir) {
			list = append(list, filepath.Join(d, dir, name))
		}
	}
	out := list[:0]
	for _, place := range list {
		if filepath.IsAbs(place) {
			out = append(out, place)
		}
	}
	return out
}

func (s *splitFiles) openPackage() {
	for _, place := range []string{s.path + ".dwp", trimDebug(s.path) + ".dwp"} {
		if sections, index, ok := s.read(place); ok && index != nil {
			s.dwp = srcline.NewPackage(sections, index)
			return
		}
	}
}

// trimDebug is the name that a module has without the .debug of its debug file.
func trimDebug(path string) string {
	if ext := filepath.Ext(path); ext == ".debug" {
		return path[:len(path)-len(ext)]
	}
	return path
}

// read reads the .dwo sections of a file and, of a package, its index.
func (s *splitFiles) read(place string) (sections srcline.Sections, index []byte, ok bool) {
	file, err := OpenRegular(place)
	if err != nil {
		return sections, nil, false
	}
	defer file.Close()
	f, err := readELF(file)
	if err != nil {
		return sections, nil, false
	}
	if index, err = sectionData(f, ".debug_cu_index", s.room); err != nil {
		return sections, nil, false
	}
	sections, err = sectionsWith(f, ".dwo", s.room-int64(len(index)))
	s.room -= int64(len(index)) + sectionBytes(f)
	return sections, index, err == nil && sections.Info != nil
}

// sectionBytes is what the .dwo sections of a file take.
func sectionBytes(f *elf.File) (n int64) {
	for _, s := range f.Sections {
		if filepath.Ext(s.Name) == ".dwo" {
			n += int64(min(s.Size, 1<<40))
		}
	}
	return n
}
