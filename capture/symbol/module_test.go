package symbol

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// marks returns the lines of a source that are marked "call: name".
func marks(t testing.TB, source string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(map[string]int)
	for i, text := range strings.Split(string(data), "\n") {
		if _, name, ok := strings.Cut(text, "// call: "); ok {
			lines[name] = i + 1
		}
	}
	return lines
}

// reported runs calls.c and returns the return addresses that it prints.
func reported(t testing.TB, prog string) map[string]uint64 {
	t.Helper()
	out, err := exec.Command(prog).Output()
	if err != nil {
		t.Fatal(err)
	}
	addrs := make(map[string]uint64)
	for text := range strings.Lines(string(out)) {
		var name string
		var addr uint64
		if _, err := fmt.Sscanf(text, "%s 0x%x", &name, &addr); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		addrs[name] = addr
	}
	return addrs
}

// checkCalls resolves the return addresses of calls.c.
func checkCalls(t *testing.T, m *Module, prog string, addrs map[string]uint64) {
	t.Helper()
	line := marks(t, "testdata/calls.c")
	source, err := filepath.Abs("testdata/calls.c")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]Frame{
		"nested": {
			{Function: "innermost", Line: line["nested"], Inlined: true},
			{Function: "middle", Line: line["middle"], Inlined: true},
			{Function: "outer", Line: line["outer"]},
		},
		"plain":   {{Function: "outer", Line: line["plain"]}},
		"pointer": {{Function: "through_pointer", Line: line["pointer"]}},
		"last":    {{Function: "leave", Line: line["last"]}},
	}
	for name, frames := range want {
		addr, ok := addrs[name]
		if !ok {
			t.Fatalf("the program reported no %s", name)
		}
		offset := addr - symbolAddr(t, prog, frames[len(frames)-1].Function)
		for i := range frames {
			frames[i].File, frames[i].Offset = source, offset
		}
		got := m.Resolve(offsetOf(t, prog, addr), true)
		if fmt.Sprint(got) != fmt.Sprint(frames) {
			t.Errorf("%s at %#x: got\n%+v\nwant\n%+v", name, addr, got, frames)
		}
	}
}

// TestPrograms resolves what programs built in many ways report of themselves.
func TestPrograms(t *testing.T) {
	builds := []struct{ name, compiler, flags string }{
		{"pie", "gcc", "-O2 -g"},
		{"no-pie", "gcc", "-O2 -g -no-pie"},
		{"static", "gcc", "-O2 -g -static"},
		{"static-pie", "gcc", "-O2 -g -static-pie"},
		{"dwarf-2", "gcc", "-O2 -gdwarf-2"},
		{"dwarf-3", "gcc", "-O2 -gdwarf-3"},
		{"dwarf-4", "gcc", "-O2 -gdwarf-4"},
		{"dwarf64", "gcc", "-O2 -g -gdwarf64"},
		{"zlib", "gcc", "-O2 -g -gz"},
		{"sections", "gcc", "-O2 -g -ffunction-sections -Wl,--gc-sections"},
		{"lto", "gcc", "-O2 -g -flto"},
		{"clang", "clang-14", "-O2 -gdwarf-5"},
		{"clang-dwarf-4", "clang-14", "-O2 -gdwarf-4"},
	}
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			prog := compile(t, b.compiler, mustAbs(t, "testdata/calls.c"), strings.Fields(b.flags)...)
			m := open(t, newResolver(t), prog)
			checkCalls(t, m, prog, reported(t, prog))
			if err := m.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

func mustAbs(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// TestDebugFiles strips a program and lets the resolver find its debug file.
func TestDebugFiles(t *testing.T) {
	full := compile(t, "gcc", mustAbs(t, "testdata/calls.c"), "-O2", "-g", "-Wl,--build-id")
	addrs := reported(t, full)
	id := open(t, newResolver(t), full).BuildID()
	if len(id) != 40 {
		t.Fatalf("build-id %q", id)
	}
	// strip leaves a program and its debug file, called name, in dir.
	strip := func(t *testing.T, dir, name string, link bool) string {
		prog, debug := filepath.Join(dir, "prog"), filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(debug), 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, "", "objcopy", "--only-keep-debug", full, debug)
		run(t, "", "objcopy", "--strip-all", full, prog)
		if link {
			// The build-id would find it as well: take it away.
			run(t, "", "objcopy", "--remove-section=.note.gnu.build-id", "--add-gnu-debuglink="+debug, prog)
		}
		return prog
	}
	t.Run("build-id", func(t *testing.T) {
		dir := t.TempDir()
		prog := strip(t, dir, filepath.Join(".build-id", id[:2], id[2:]+".debug"), false)
		checkCalls(t, open(t, newResolver(t, dir), prog), full, addrs)
	})
	t.Run("wrong build-id", func(t *testing.T) {
		dir := t.TempDir()
		prog := strip(t, dir, filepath.Join(".build-id", id[:2], id[2:]+".debug"), false)
		other := compile(t, "gcc", mustAbs(t, "testdata/calls.c"), "-O1", "-g", "-Wl,--build-id")
		if err := os.Rename(other, filepath.Join(dir, ".build-id", id[:2], id[2:]+".debug")); err != nil {
			t.Fatal(err)
		}
		noSymbols(t, open(t, newResolver(t, dir), prog), full, addrs)
	})
	for _, place := range []string{"prog.debug", ".debug/prog.debug"} {
		t.Run("link "+place, func(t *testing.T) {
			prog := strip(t, t.TempDir(), place, true)
			checkCalls(t, open(t, newResolver(t), prog), full, addrs)
		})
	}
	t.Run("link below debug directory", func(t *testing.T) {
		dir, debugDir := t.TempDir(), t.TempDir()
		prog := strip(t, dir, "prog.debug", true)
		if err := os.MkdirAll(filepath.Join(debugDir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "prog.debug"), filepath.Join(debugDir, dir, "prog.debug")); err != nil {
			t.Fatal(err)
		}
		checkCalls(t, open(t, newResolver(t, debugDir), prog), full, addrs)
	})
	t.Run("link with wrong CRC", func(t *testing.T) {
		dir := t.TempDir()
		prog := strip(t, dir, "prog.debug", true)
		f, err := os.OpenFile(filepath.Join(dir, "prog.debug"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("x"); err != nil {
			t.Fatal(err)
		}
		noSymbols(t, open(t, newResolver(t), prog), full, addrs)
	})
}

// TestMiniDebugInfo finds a static function in .gnu_debugdata.
func TestMiniDebugInfo(t *testing.T) {
	full := compile(t, "gcc", mustAbs(t, "testdata/calls.c"), "-O2", "-g")
	addr := reported(t, full)["nested"]
	dir := t.TempDir()
	run(t, dir, "objcopy", "--strip-all", full, "prog")
	run(t, dir, "objcopy", "--strip-debug", full, "mini")
	run(t, dir, "xz", "mini")
	run(t, dir, "objcopy", "--add-section", ".gnu_debugdata=mini.xz", "prog")
	prog := filepath.Join(dir, "prog")
	got := open(t, newResolver(t), prog).Resolve(offsetOf(t, prog, addr), true)
	if want := (Frame{Function: "outer", Offset: addr - symbolAddr(t, full, "outer")}); len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestAlternateDebugFile checks that the file named by .gnu_debugaltlink is read
// when its build-id is right; srcline's tests check what is taken from it.
func TestAlternateDebugFile(t *testing.T) {
	prog := compile(t, "gcc", mustAbs(t, "testdata/calls.c"), "-O2", "-g")
	dir := filepath.Dir(prog)
	shared := compile(t, "gcc", mustAbs(t, "testdata/calls.c"), "-O1", "-g", "-Wl,--build-id")
	id := open(t, newResolver(t), shared).id
	if err := os.Rename(shared, filepath.Join(dir, "shared.debug")); err != nil {
		t.Fatal(err)
	}
	size := func(id []byte) int64 {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "link"), append([]byte("shared.debug\x00"), id...), 0o644); err != nil {
			t.Fatal(err)
		}
		linked := filepath.Join(dir, fmt.Sprintf("linked-%x", id))
		run(t, dir, "objcopy", "--add-section", ".gnu_debugaltlink=link", prog, linked)
		m := open(t, newResolver(t), linked)
		checkCalls(t, m, prog, reported(t, prog))
		return m.tables.lines.Size()
	}
	with, without := size(id), size(bytes.Repeat([]byte{1}, len(id)))
	if with <= without {
		t.Errorf("%d bytes with the shared file, %d without", with, without)
	}
}

// noSymbols expects that nothing is known of static functions.
func noSymbols(t *testing.T, m *Module, full string, addrs map[string]uint64) {
	t.Helper()
	got := m.Resolve(offsetOf(t, full, addrs["nested"]), true)
	if len(got) != 1 || got[0] != (Frame{}) {
		t.Errorf("a debug file that does not belong was used: %+v", got)
	}
}

func TestDemangledNames(t *testing.T) {
	for _, flags := range []string{"-O1 -g", "-O2 -g", "-O1"} {
		t.Run(flags, func(t *testing.T) {
			prog := compile(t, "g++", mustAbs(t, "testdata/names.cc"), strings.Fields(flags)...)
			m := open(t, newResolver(t), prog)
			want := map[string]bool{
				"app::Store<long>::push_back":        false,
				"app::Store<long>::Store":            false,
				"app::(anonymous namespace)::hidden": false,
				"operator new":                       false,
				"main::{lambda(int)#1}::operator()":  false,
				"main":                               false,
			}
			var names []string
			for _, s := range m.Symbols() {
				frames := m.Resolve(offsetOf(t, prog, s.Addr), false)
				last := frames[len(frames)-1]
				names = append(names, last.Function)
				if _, ok := want[last.Function]; ok {
					want[last.Function] = true
				}
			}
			for name, seen := range want {
				if !seen {
					t.Errorf("no %s in %q", name, names)
				}
			}
		})
	}
}

// TestGoStripped compares with what a Go program's own runtime says.
func TestGoStripped(t *testing.T) {
	for _, mode := range []string{"exe", "pie"} {
		t.Run(mode, func(t *testing.T) {
			prog := filepath.Join(t.TempDir(), "prog")
			run(t, "testdata/lines", "go", "build", "-buildmode="+mode, "-ldflags=-s -w", "-o", prog, "main.go")
			m := open(t, newResolver(t), prog)
			if n := len(m.Symbols()); n != 0 {
				t.Fatalf("%d symbols: the program is not stripped", n)
			}
			out, err := exec.Command(prog).Output()
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for scanner := bufio.NewScanner(bytes.NewReader(out)); scanner.Scan(); seen++ {
				f := strings.Fields(scanner.Text())
				offset, err := strconv.ParseUint(f[3], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				got := m.Resolve(offset, true)[0]
				if got.Function != f[0] || got.File != f[1] || strconv.Itoa(got.Line) != f[2] {
					t.Errorf("got %+v, want %v", got, f)
				}
			}
			if seen != 2 {
				t.Errorf("the program printed %d lines", seen)
			}
		})
	}
}
