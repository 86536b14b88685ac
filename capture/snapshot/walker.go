package snapshot

import (
	"os"
	"slices"

	"github.com/tcap-dev/tcap/capture/unwind"
	"github.com/tcap-dev/tcap/format"
)

// A File is an executable file that is mapped somewhere. Its address is its identity.
type File struct {
	Path  string
	Owner any                      // who asks for it
	Open  func() (*os.File, error) // nil if it is not at hand
}

// A Mapping is executable memory; File is nil if it is no file's.
type Mapping struct {
	Start, End uint64
	Offset     uint64 // of Start in the file
	File       *File
}

// A Walker unwinds stacks of any process. It serves one goroutine.
type Walker struct {
	unwind *unwind.Unwinder
	files  map[*File]*unwind.Module
	opened []*os.File
}

// NewWalker returns a walker that searches debugDirs for separate debug files, and
// last the system's.
func NewWalker(debugDirs []string) *Walker {
	dirs := append(slices.Clone(debugDirs), "/usr/lib/debug")
	return &Walker{unwind: unwind.New(unwind.Options{DebugDirs: dirs}), files: map[*File]*unwind.Module{}}
}

// Close closes the files.
func (w *Walker) Close() {
	for _, f := range w.opened {
		f.Close()
	}
	w.opened, w.files = nil, nil
}

// Walk unwinds a stack with what was mapped at the time. made reports that it
// was called from code that the program made itself.
func (w *Walker) Walk(maps []Mapping, at *unwind.Snapshot) (frames []unwind.Frame, end unwind.End, made bool) {
	in := space{w: w, maps: maps, first: at.PC}
	frames, end = w.unwind.Unwind(&in, at, nil)
	return frames, end, in.made
}

// module loads a file once.
func (w *Walker) module(f *File) *unwind.Module {
	if f == nil {
		return nil
	}
	m, ok := w.files[f]
	if !ok {
		if f.Open != nil {
			if r, err := f.Open(); err == nil {
				w.opened = append(w.opened, r)
				m = w.unwind.Load(r, f.Path)
			}
		}
		w.files[f] = m
	}
	return m
}

// Place finds the mapping of a frame, nil if it is in none. pc is the frame's
// return address: that of the one which was interrupted, rather than in a call, is one behind it, too.
func Place(f *unwind.Frame, maps []Mapping) (in *Mapping, pc uint64) {
	pc = f.PC
	if !f.IsReturn {
		pc++
	}
	for i := range maps {
		if m := &maps[i]; pc-m.Start < m.End-m.Start {
			return m, pc
		}
	}
	return nil, pc
}

// EndOf is why a stack has no more frames, as a capture tells it.
func EndOf(e unwind.End) format.StackEnd { return ends[e] }

var ends = map[unwind.End]format.StackEnd{
	unwind.Complete: format.EndComplete, unwind.SnapshotEnd: format.EndCopy, unwind.NoRule: format.EndNoRule,
	unwind.NoCode: format.EndNoCode, unwind.BadStep: format.EndMisfit, unwind.Limit: format.EndLimit,
	unwind.Switched: format.EndSwitched,
}

// A space is an address space as the unwinder asks for it.
type space struct {
	w     *Walker
	maps  []Mapping
	first uint64 // the first frame, which is no guess
	made  bool   // from code that the program made itself
}

// Code finds an address. What called a function, or was running, is code, in whatever memory it
// is; an address further out may be a mistake.
func (s *space) Code(addr uint64) (unwind.Mapping, bool) {
	for i := range s.maps {
		if m := &s.maps[i]; addr-m.Start < m.End-m.Start {
			return unwind.Mapping{Start: m.Start, End: m.End, Offset: m.Offset, Module: s.w.module(m.File)}, true
		}
	}
	const page = 1 << 12
	if start := s.first &^ (page - 1); s.first != 0 && addr-start < page {
		s.made = true
		return unwind.Mapping{Start: start, End: start + page}, true
	}
	return unwind.Mapping{}, false
}
