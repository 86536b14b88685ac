package unwind

import (
	"debug/elf"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOracle stops programs and wants the frames that gdb sees, address by
// address, the functions that the program was written to call, and the end.
func TestOracle(t *testing.T) {
	omit := []string{"-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"}
	atMalloc := []string{"break leaf", "run", "tbreak malloc", "continue"}
	for _, c := range []struct {
		name     string
		compiler string
		source   string
		flags    []string
		commands []string
		steps    int
		want     string // innermost first; others may lie between
	}{
		{"C", "gcc", "frames.c", omit, atMalloc, 0,
			"malloc leaf variable aligned recurse recurse compare qsort main"},
		{"clang", "clang", "frames.c", omit, atMalloc, 0,
			"malloc leaf variable aligned recurse recurse compare qsort main"},
		{"static", "gcc", "frames.c", append(omit, "-static"), atMalloc, 0,
			"malloc leaf variable aligned recurse recurse compare qsort main"},
		{"frame pointers", "gcc", "frames.c", []string{"-O0"}, atMalloc, 0,
			"malloc leaf variable aligned recurse recurse compare qsort main"},
		{"signals", "gcc", "signals.c", append(omit, "-pthread"), atMalloc, 0,
			"malloc leaf second restore_rt kill raise first restore_rt raise interrupted thread start_thread clone3"},
		// From a first call through the PLT, which the dynamic linker resolves.
		{"every instruction", "gcc", "frames.c", append(omit, "-Wl,-z,lazy", "-fcf-protection=none"), []string{"set args 1", "break leaf", "run", "delete"}, 400,
			"leaf variable aligned recurse compare qsort main"},
		{"every instruction, CET", "gcc", "frames.c", append(omit, "-Wl,-z,lazy", "-fcf-protection=full"), []string{"set args 1", "break leaf", "run", "delete"}, 400,
			"leaf variable aligned recurse compare qsort main"},
		{"vdso", "gcc", "clock.c", omit, []string{"break main", "run", "break __vdso_clock_gettime", "continue"}, 30,
			"clock_gettime clock_gettime main"},
		{"library", "g++", "throw.cpp", omit, []string{"break growing", "run", "tbreak malloc", "continue"}, 0,
			"malloc operator_new growing main"},
		{"throw", "g++", "throw.cpp", omit, []string{"break __cxa_allocate_exception", "run", "tbreak malloc", "continue"}, 0,
			"malloc __cxa_allocate_exception thrower catcher stable_sort sorted main"},
		{"cleanup", "g++", "throw.cpp", omit, atMalloc, 0,
			"malloc leaf thrower catcher stable_sort sorted main"},
		{"personality", "g++", "throw.cpp", omit, []string{"break __gxx_personality_v0", "run"}, 0,
			"__gxx_personality_v0 _Unwind_RaiseException __cxa_throw thrower catcher main"},
		{"Rust", "rustc", "closures.rs", []string{"-C", "opt-level=3", "-C", "force-frame-pointers=no"}, atMalloc, 0,
			"malloc leaf drop unlucky sort apply main lang_start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := recordStops(t, build(t, c.compiler, c.source, c.flags...), c.steps, c.commands...)
			u := New(Options{})
			space := r.space(t, u)
			for i := range r.Stops {
				s := &r.Stops[i]
				frames, end := u.Unwind(space, s.snapshot(), nil)
				if got, want := pcs(frames), s.pcs(); !slices.Equal(got, want) || end != Complete {
					t.Fatalf("stop %d: ended: %v; frames\n got %v\nwant %v\n     %v", i, end, got, want, s.names())
				}
				checkNeeds(t, u, space, s.snapshot(), frames, end)
			}
			wantNames(t, r.Stops[0].names(), c.want)
		})
	}
}

// TestGo unwinds a goroutine by the program's own table, which it keeps when it
// is stripped.
func TestGo(t *testing.T) {
	for _, c := range []struct{ name, ldflags string }{{"symbols", ""}, {"stripped", "-s -w"}} {
		t.Run(c.name, func(t *testing.T) {
			prog := filepath.Join(t.TempDir(), "prog")
			run(t, "testdata", "go", "build", "-ldflags", c.ldflags, "-o", prog, "goroutines.go")
			twin := filepath.Join(t.TempDir(), "twin") // stripping moves nothing
			run(t, "testdata", "go", "build", "-o", twin, "goroutines.go")
			r := recordStops(t, prog, 2, "handle SIGURG nostop noprint pass", fmt.Sprintf("break *%#x", symbolAddr(t, twin, "main.leaf")), "run")
			u := New(Options{})
			space := r.space(t, u)
			for i := range r.Stops {
				snap := r.Stops[i].snapshot()
				frames, end := u.Unwind(space, snap, nil)
				checkNeeds(t, u, space, snap, frames, end)
				names := progNames(t, prog, twin, space, frames)
				if end != Complete {
					t.Errorf("ended: %v, after %v", end, names)
				}
				if n := count(names, "main.recurse"); n != 51 {
					t.Errorf("%d frames of main.recurse, want 51", n)
				}
				wantNames(t, names, "main.leaf main.recurse main.main.func1.1.1 main.main.func1.1 sort. sort.Slice main.main.func1 runtime.goexit")
				if want := r.Stops[i].pcs(); c.ldflags == "" && !slices.Equal(pcs(frames), want[:min(len(want), len(frames))]) {
					t.Errorf("frames\n got %v\nwant %v", pcs(frames), want)
				}
			}
		})
	}
}

func count(names []string, name string) (n int) {
	for _, s := range names {
		if s == name {
			n++
		}
	}
	return n
}

// symbolAddr returns the address of a function in .symtab.
func symbolAddr(t testing.TB, path, name string) uint64 {
	t.Helper()
	for _, s := range symbols(t, path) {
		if s.Name == name {
			return s.Value
		}
	}
	t.Fatalf("%s: no function %s", path, name)
	return 0
}

func symbols(t testing.TB, path string) []elf.Symbol {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// progNames names the frames that are in prog's own code, "?" what is not, by
// the symbols of a twin that has some.
func progNames(t testing.TB, prog, twin string, space recordedSpace, frames []Frame) []string {
	t.Helper()
	var names []string
	all := symbols(t, twin)
	for _, f := range frames {
		at, name := f.PC, "?"
		if f.IsReturn {
			at--
		}
		if m, ok := space.Code(at); ok && m.Module != nil && m.Module.path == prog {
			at, _ = m.Module.address(at - m.Start + m.Offset)
			for _, s := range all {
				if at-s.Value < s.Size {
					name = s.Name
				}
			}
		}
		names = append(names, name)
	}
	return names
}

// wantNames wants functions in that order, with others in between.
func wantNames(t *testing.T, names []string, want string) {
	t.Helper()
	rest := names
	for _, name := range strings.Fields(want) {
		name = strings.ReplaceAll(name, "_new", " new")
		i := slices.IndexFunc(rest, func(s string) bool { return strings.Contains(s, name) })
		if i < 0 {
			t.Fatalf("no %s in its place: %v", name, names)
		}
		rest = rest[i+1:]
	}
}
