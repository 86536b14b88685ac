package symbol

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// split builds calls.c with its functions' debugging information in calls.dwo.
func split(t *testing.T, compiler, flags string) (prog, dwo string) {
	t.Helper()
	dir := t.TempDir()
	args := append(strings.Fields(flags), "-O2", "-gsplit-dwarf", "-c", mustAbs(t, "testdata/calls.c"), "-o", "calls.o")
	run(t, dir, compiler, args...)
	run(t, dir, compiler, "-o", "prog", "calls.o")
	return filepath.Join(dir, "prog"), filepath.Join(dir, "calls.dwo")
}

var splitBuilds = []struct{ name, compiler, flags, pack string }{
	{"gcc-5", "gcc", "-gdwarf-5", "llvm-dwp-14"}, // binutils 2.40's dwp crashes on it
	{"gcc-4", "gcc", "-gdwarf-4", "dwp"},
	{"gcc-5-zlib", "gcc", "-gdwarf-5 -gz", ""}, // neither dwp reads what is compressed
	{"clang-5", "clang-14", "-gdwarf-5", "llvm-dwp-14"},
	{"clang-4", "clang-14", "-gdwarf-4", "llvm-dwp-14"},
}

// TestSplit resolves what -gsplit-dwarf put into a .dwo file, where the compiler
// wrote it, below a debug directory, and in a package.
func TestSplit(t *testing.T) {
	for _, b := range splitBuilds {
		t.Run(b.name, func(t *testing.T) {
			prog, dwo := split(t, b.compiler, b.flags)
			addrs := reported(t, prog)
			check := func(where string, debugDirs ...string) {
				t.Helper()
				m := open(t, newResolver(t, debugDirs...), prog)
				checkCalls(t, m, prog, addrs)
				if err := m.Err(); err != nil {
					t.Errorf("%s: %v", where, err)
				}
			}
			check("beside the program")
			if b.pack != "" {
				run(t, filepath.Dir(prog), b.pack, "-o", "prog.dwp", "-e", "prog")
			}
			moved := t.TempDir()
			if err := os.Rename(dwo, filepath.Join(moved, "calls.dwo")); err != nil {
				t.Fatal(err)
			}
			if b.pack != "" {
				check("in a package")
				if err := os.Remove(prog + ".dwp"); err != nil {
					t.Fatal(err)
				}
			}
			check("in a debug directory", moved)
			m := open(t, newResolver(t), prog)
			got := m.Resolve(offsetOf(t, prog, addrs["plain"]), true)
			if len(got) == 0 || got[len(got)-1].Function != "outer" || got[0].Line == 0 {
				t.Errorf("without the file: %+v", got) // .symtab and the skeleton's lines
			}
		})
	}
}

// TestSplitHostile gives the other part of another build, and cut and
// damaged ones: what they name is not believed, nothing panics or hangs.
func TestSplitHostile(t *testing.T) {
	prog, dwo := split(t, "gcc", "-gdwarf-5")
	addrs := reported(t, prog)
	whole, err := os.ReadFile(dwo)
	if err != nil {
		t.Fatal(err)
	}
	resolve := func() (*Module, []Frame) {
		m := open(t, newResolver(t), prog)
		return m, m.Resolve(offsetOf(t, prog, addrs["nested"]), true)
	}
	_, other := split(t, "gcc", "-gdwarf-5 -DOTHER")
	run(t, "", "cp", other, dwo)
	if m, got := resolve(); len(got) != 1 || m.Err() == nil || !strings.Contains(m.Err().Error(), "another build") {
		t.Errorf("another build: %v, %+v", m.Err(), got)
	}
	for n := 0; n < len(whole); n += len(whole)/100 + 1 {
		for _, bad := range [][]byte{whole[:n], flip(whole, n)} {
			if err := os.WriteFile(dwo, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, got := resolve(); len(got) == 0 {
				t.Errorf("at %d: no frame", n)
			}
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0xff
	return b
}
