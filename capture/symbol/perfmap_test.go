package symbol

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func perfMap(t testing.TB) (p *PerfMap, write func(string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "perf-1.map")
	p = NewPerfMap(func() (*os.File, error) { return os.Open(path) })
	return p, func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPerfMap(t *testing.T) {
	p, write := perfMap(t)
	want := func(addr uint64, name string, offset uint64) {
		t.Helper()
		if got := p.Resolve(addr, true); got.Function != name || got.Offset != offset {
			t.Errorf("%#x: %+v, want %s+%d", addr, got, name, offset)
		}
	}
	want(0x1010, "", 0)
	if !errors.Is(p.Err(), fs.ErrNotExist) {
		t.Errorf("no file: error %v", p.Err())
	}
	write("1000 40 LazyCompile:*f /app/x.js:3\n0x2000 0x10 _Z1gv\nnonsense\n3000 0 empty\nffffffffffffffff 10 wraps\n1040 10 cut")
	want(0x1010, "LazyCompile:*f /app/x.js:3", 0x10)
	want(0x1040, "LazyCompile:*f /app/x.js:3", 0x40) // behind a call that is the function's last instruction
	want(0x1041, "", 0)
	want(0x2008, "g", 8)
	want(0x3000, "", 0)
	if err := p.Err(); err != nil {
		t.Error(err)
	}
	write(" short\n1000 20 again\n") // the end of a line, and memory that is used again
	want(0x1048, "cut short", 8)
	want(0x1010, "again", 0x10)
	want(0x1030, "LazyCompile:*f /app/x.js:3", 0x30)
	write(strings.Repeat("x", maxNameBytes+1))
	if want(0x1010, "again", 0x10); !errors.Is(p.Err(), errTooLarge) {
		t.Errorf("an endless line: error %v", p.Err())
	}
}

func FuzzPerfMap(f *testing.F) {
	f.Add("1000 40 f\n1010 8 g h\n", uint64(0x1011))
	f.Add("0 ffffffffffffffff x\n\n \n1 1\n", uint64(0))
	f.Fuzz(func(t *testing.T, text string, addr uint64) {
		p, write := perfMap(t)
		write(text)
		if got := p.Resolve(addr, false); got.Function != "" && !strings.Contains(text, " ") {
			t.Errorf("%+v from %q", got, text)
		}
	})
}
