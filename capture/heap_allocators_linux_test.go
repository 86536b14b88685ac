package capture_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/analyze"
	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// TestHeapOperators: each form of new and delete is one event, whichever
// allocator is linked (pitfall 15).
func TestHeapOperators(t *testing.T) {
	for _, c := range some([]struct{ name, lib, fn string }{
		{"jemalloc", "-ljemalloc", "new"},
		{"tcmalloc", "-ltcmalloc_minimal", "new"},
		{"mimalloc", "-lmimalloc", "new"},
		{"libstdc++", "", "malloc"},
	}) {
		t.Run(c.name, func(t *testing.T) {
			flags := []string{"-Wl,--no-as-needed", "-lstdc++"}
			if c.lib != "" {
				flags = []string{"-Wl,--no-as-needed", c.lib, "-lstdc++"} // first, so that its operators win
			}
			r := record(t, build(t, "cxx.cpp", flags...), "forms").complete()
			r.exact()
			if first := r.marked(heapKinds...); len(first) == 0 || !strings.HasPrefix(first[0].fact(functions()), "alloc "+c.fn+" ") {
				t.Errorf("the first call was not told as %s", c.fn)
			}
		})
	}
}

// library finds a shared library by name.
func library(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("gcc", "-print-file-name="+name).Output()
	if path := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(path) {
		return path
	}
	for _, dir := range []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	kerneltest.Skip(t, name+" is not installed")
	return ""
}

// TestHeapPreloaded: allocators that LD_PRELOAD puts before libc (pitfall 15).
func TestHeapPreloaded(t *testing.T) {
	exe := build(t, "heap.c", "-ldl", "-DNO_DLVSYM=1")
	for _, name := range some([]string{"libtcmalloc_minimal.so.4", "libmimalloc.so.2.0", "libjemalloc.so.2"}) {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LD_PRELOAD", library(t, name)) // this process has been loaded already
			r := record(t, exe, "preloaded", "1000").complete()
			r.exact()
		})
	}
}

// TestHeapMallocx: jemalloc's own interface (pitfall 15).
func TestHeapMallocx(t *testing.T) {
	record(t, build(t, "jemalloc.c", "-DLINKED", "-ljemalloc")).complete().exact()
}

// TestHeapOpened: an allocator that the program opens after the recording
// began is probed, and libc's stays so (pitfall 15): one that the loader knows
// from its first call on, and one from an unusual place as soon as the recorder
// has seen its mapping.
func TestHeapOpened(t *testing.T) {
	exe := build(t, "jemalloc.c", "-ldl")
	lib := library(t, "libjemalloc.so.2")
	t.Setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384")
	t.Run("known", func(t *testing.T) {
		p := start(t, exe, lib, "wait")
		p.await("ready")
		rec := attachTo(t, p)
		p.tell('g')
		p.await("opened")
		p.tell('g')
		p.wait()
		rec.ended(p.all.String()).complete().exact()
	})
	t.Run("unusual", func(t *testing.T) {
		text, err := os.ReadFile(lib)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(t.TempDir(), "arena.so")
		if err := os.WriteFile(copied, text, 0o700); err != nil {
			t.Fatal(err)
		}
		p := start(t, exe, copied, "wait")
		p.await("ready")
		rec := attachTo(t, p)
		p.tell('g')
		p.await("opened")
		awaitProbes(t, p.cmd.Process.Pid, copied, "mallocx")
		p.tell('g')
		p.wait()
		r := rec.ended(p.all.String())
		r.exact()
		if !strings.Contains(r.notes, "arena.so") {
			t.Errorf("what was missed is not told: %q", r.notes)
		}
	})
}

// TestHeapTwoLibcs: processes with different C libraries in one recording,
// one of them with a copy of libc in a root of its own, as in a container
// (pitfall 15).
func TestHeapTwoLibcs(t *testing.T) {
	root := t.TempDir()
	exe := build(t, "heap.c", "-ldl")
	for _, file := range mappedBy(t, exe) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	inside := start(t, "unshare", "--mount", "chroot", root, exe, "serve")
	outside := start(t, exe, "serve")
	other := start(t, build(t, "heap.c", musl), "serve")
	all := []*target{inside, outside, other}
	for _, p := range all {
		p.await("ready")
	}
	rec := attachTo(t, all...)
	for i, p := range all {
		for range i + 1 {
			p.tell('m')
			p.await("done")
		}
		p.tell('q')
		p.wait()
	}
	r := rec.ended("").quiet()
	l := r.leaks()
	if want := (analyze.Amount{Bytes: 6 * 77, Blocks: 6}); l.Total != want {
		t.Errorf("leaks %+v, want %+v\n%s", l.Total, want, r.text(l))
	}
}
