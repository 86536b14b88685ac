package unwind

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestDebugFrame unwinds a program without .eh_frame by the .debug_frame that it
// has itself, compressed or not, or that its debug file has.
func TestDebugFrame(t *testing.T) {
	flags := []string{"-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"}
	for _, c := range []struct {
		name  string
		flags []string
		strip string // where its debug information goes
	}{
		{"own", []string{"-Wl,--build-id=none"}, ""},
		{"compressed", []string{"-gz=zlib"}, ""},
		{"64-bit", []string{"-gdwarf64", "-Wl,--build-id=none"}, ""},
		{"debuglink", []string{"-Wl,--build-id=none"}, ".debug/prog.debug"},
		{"build-id", []string{"-Wl,--build-id=0xabcdef0123"}, "debug/.build-id/ab/cdef0123.debug"},
	} {
		t.Run(c.name, func(t *testing.T) {
			prog := build(t, "gcc", "frames.c", append(slices.Clone(flags), c.flags...)...)
			dir := filepath.Dir(prog)
			whole := filepath.Join(dir, "whole")
			run(t, dir, "cp", prog, whole)
			if c.strip != "" {
				debug := filepath.Join(dir, c.strip)
				if err := os.MkdirAll(filepath.Dir(debug), 0o755); err != nil {
					t.Fatal(err)
				}
				run(t, dir, "objcopy", "--only-keep-debug", prog, debug)
				run(t, dir, "strip", prog)
				if c.name == "debuglink" {
					run(t, dir, "objcopy", "--add-gnu-debuglink="+debug, prog)
				}
			}
			r := recordStops(t, prog, 0, "set args 5", "set cwd "+dir, "set debug-file-directory "+filepath.Join(dir, "debug"), "symbol-file "+whole, "break leaf", "run", "tbreak malloc", "continue")
			u := New(Options{DebugDirs: []string{filepath.Join(dir, "debug")}})
			space := r.space(t, u)
			frames, end := u.Unwind(space, r.Stops[0].snapshot(), nil)
			names := progNames(t, prog, whole, space, frames)
			if n := count(names, "recurse"); n != 6 || end != Complete {
				t.Errorf("ended: %v, after %v", end, names)
			}
			wantNames(t, names, "leaf variable aligned recurse compare main")
			for i, f := range frames[2:] { // not by luck: code that could be followed, too
				if f.Method != CFI {
					t.Errorf("frame %d by %d", i+2, f.Method)
				}
			}
		})
	}
}
