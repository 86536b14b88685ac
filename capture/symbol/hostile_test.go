package symbol

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// resolveBytes does what a Module does, with a file in memory.
func resolveBytes(t testing.TB, data []byte) {
	opts := &Options{DebugDirs: []string{}, MaxSectionBytes: 1 << 20}
	r := io.ReaderAt(bytes.NewReader(data))
	f, err := readELF(r)
	if err != nil {
		return
	}
	id, segs := buildID(f), segments(f)
	if len(id) > maxBuildID {
		t.Errorf("build-id of %d bytes", len(id))
	}
	tables, _ := readTables(f, id, "/nowhere", opts)
	tables.lines, tables.goTable, _ = readSources(r, "/nowhere", fileRef{}, opts)
	try := func(addr uint64) {
		frames := tables.resolve(addr, 1)
		if len(frames) == 0 || frames[len(frames)-1].Inlined {
			t.Errorf("%#x: frames %+v", addr, frames)
		}
	}
	for i, s := range tables.symbols.symbols {
		if i > 0 && s.Addr <= tables.symbols.symbols[i-1].Addr {
			t.Errorf("symbols out of order at %#x", s.Addr)
		}
		try(s.Addr)
		try(s.Addr + s.Size/2)
		if i == 100 {
			break
		}
	}
	for off := uint64(0); off < uint64(len(data)); off += 1 + uint64(len(data))/64 {
		if addr, ok := addressOf(segs, off); ok {
			try(addr)
		}
	}
}

func FuzzModule(f *testing.F) {
	data, err := os.ReadFile("testdata/hello.elf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= 1<<16 {
			resolveBytes(t, data)
		}
	})
}

// TestDamagedModule cuts a module at every byte, and flips every byte of it.
func TestDamagedModule(t *testing.T) {
	data, err := os.ReadFile("testdata/hello.elf")
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		resolveBytes(t, data[:n])
		damaged := bytes.Clone(data)
		damaged[n] ^= 0xff
		resolveBytes(t, damaged)
	}
}

func TestHello(t *testing.T) {
	m := open(t, newResolver(t), "testdata/hello.elf")
	for _, s := range m.Symbols() {
		if s.Name != "work" {
			continue
		}
		got := m.Resolve(offsetOf(t, "testdata/hello.elf", s.Addr), false)
		want := []Frame{{"twice", "/src/hello.c", 4, 0, true}, {"work", "/src/hello.c", 5, 0, false}}
		if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("got %+v, want %+v", got, want)
		}
		return
	}
	t.Error("no function work")
}

// TestUnusableFiles expects a module that knows nothing and says why.
func TestUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	r := newResolver(t)
	for _, path := range []string{
		filepath.Join(dir, "none"), write("empty", ""), write("text", "#!/bin/sh\n"), write("cut", "\x7fELF\x02\x01\x01"), dir, fifo,
	} {
		for range 2 {
			m := r.Module(func() (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) }, path)
			if m.Err() == nil {
				t.Errorf("%s: no error", path)
			}
			if got := m.Resolve(0x1000, true); len(got) != 1 || got[0] != (Frame{}) {
				t.Errorf("%s: got %+v", path, got)
			}
			if m.Path() != path || m.BuildID() != "" || m.Symbols() != nil {
				t.Errorf("%s: path %q, build-id %q, symbols %v", path, m.Path(), m.BuildID(), m.Symbols())
			}
		}
	}
	var none *Module
	if got := none.Resolve(1, false); len(got) != 1 || got[0] != (Frame{}) || none.Err() == nil || none.Path() != "" || none.BuildID() != "" || none.Symbols() != nil {
		t.Errorf("nil Module: %+v", got)
	}
}

func TestMemoryLimit(t *testing.T) {
	opts := &Options{MaxSectionBytes: 100}
	f, err := os.Open("testdata/hello.elf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parsed, err := readELF(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readTables(parsed, nil, "/nowhere", opts); !errors.Is(err, errTooLarge) {
		t.Errorf("symbols: got %v", err)
	}
	if _, _, err := readSources(f, "/nowhere", fileRef{}, opts); !errors.Is(err, errTooLarge) {
		t.Errorf("lines: got %v", err)
	}
}

// copies returns n copies of hello.elf, different files all.
func copies(t *testing.T, n int) []string {
	data, err := os.ReadFile("testdata/hello.elf")
	if err != nil {
		t.Fatal(err)
	}
	paths := make([]string, n)
	for i := range paths {
		paths[i] = filepath.Join(t.TempDir(), "hello")
		if err := os.WriteFile(paths[i], data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func resolvesWork(m *Module) bool {
	for _, s := range m.Symbols() {
		if s.Name == "work" {
			addr, _ := addressOf(m.segs, 0)
			frames := m.Resolve(s.Addr-addr, false)
			return len(frames) == 2 && frames[1].Function == "work" && frames[1].Line == 5
		}
	}
	return false
}

func TestCache(t *testing.T) {
	paths := copies(t, 4)
	r := NewResolver(Options{DebugDirs: []string{}, MaxCacheBytes: 1, MaxOpenFiles: 2})
	defer r.Close()
	var modules []*Module
	for _, p := range paths {
		modules = append(modules, open(t, r, p))
	}
	if again := open(t, r, paths[0]); again != modules[0] {
		t.Error("the same file gave another module")
	}
	for range 2 {
		for i, m := range modules {
			if !resolvesWork(m) {
				t.Errorf("module %d does not resolve", i)
			}
			if r.loaded.Len() != 1 || r.open.Len() > 2 || r.size != m.accounted || r.size == 0 {
				t.Errorf("%d modules loaded, %d open, %d bytes accounted", r.loaded.Len(), r.open.Len(), r.size)
			}
		}
	}
	// A deleted file still resolves while it is held open.
	if err := os.Remove(paths[3]); err != nil {
		t.Fatal(err)
	}
	if !resolvesWork(modules[3]) {
		t.Error("a deleted file does not resolve")
	}
	// One that was replaced after it was closed does not.
	if err := os.Remove(paths[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(paths[0], []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if resolvesWork(modules[0]) || modules[0].Err() == nil {
		t.Errorf("a replaced file resolves, error %v", modules[0].Err())
	}
	r.Close()
	if r.size != 0 || r.open.Len() != 0 || r.loaded.Len() != 0 {
		t.Errorf("after Close: %d bytes, %d files, %d modules", r.size, r.open.Len(), r.loaded.Len())
	}
}

// TestXZBomb asks for a dictionary of 4 GiB in a file of 100 bytes.
func TestXZBomb(t *testing.T) {
	data := append([]byte("\xfd7zXZ\x00\x00\x01\x69\x22\xde\x36\x02\x00\x21\x01\x28"), make([]byte, 80)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := unxz(data, 1<<20); !errors.Is(err, errTooLarge) {
		t.Errorf("got %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}
