package symbol

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tool returns the path of a program that the tests cannot do without.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("TCAP_KERNEL_TESTS") == "1" {
		t.Fatalf("%s is needed: %v", name, err)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// compile builds testdata/source with a compiler and flags, and returns the
// program's path.
func compile(t testing.TB, compiler, source string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "prog")
	args := append([]string{"-o", out}, flags...)
	run(t, "testdata", compiler, append(args, source)...)
	return out
}

func newResolver(t testing.TB, debugDirs ...string) *Resolver {
	t.Helper()
	if debugDirs == nil {
		debugDirs = []string{}
	}
	r := NewResolver(Options{DebugDirs: debugDirs})
	t.Cleanup(func() { r.Close() })
	return r
}

func open(t testing.TB, r *Resolver, path string) *Module {
	t.Helper()
	m := r.Module(func() (*os.File, error) { return os.Open(path) }, path)
	if err := m.Err(); err != nil {
		t.Fatal(err)
	}
	return m
}

// offsetOf turns an address into a file offset, the other way than Resolve.
func offsetOf(t testing.TB, path string, addr uint64) uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr < p.Vaddr+p.Filesz {
			return addr - p.Vaddr + p.Off
		}
	}
	t.Fatalf("%s: no segment holds %#x", path, addr)
	return 0
}

// symbolAddr returns the address of a function in .symtab.
func symbolAddr(t testing.TB, path, name string) uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == name && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			return s.Value
		}
	}
	t.Fatalf("%s: no function %s", path, name)
	return 0
}
