package probe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExplainText(t *testing.T) {
	x := &Explanation{
		Path:   "/usr/lib/x86_64-linux-gnu/libc.so.6",
		Symbol: Symbol{Name: "free", Addr: 0x98ef0, Size: uint64(len(glibcFree)), Offset: 0x98ef0},
	}
	x.Placement = placeAMD64(glibcFree)
	x.Code = listing(glibcFree, x.Placement.Delta)
	var b strings.Builder
	if err := x.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "explain.golden")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	for line := range strings.Lines(b.String()) {
		if len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("line of %d columns: %s", len(line)-1, line)
		}
	}
}

func TestExplainErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a:b.so")
	image := testELF{dynsym: []testSymbol{{name: "malloc", off: 0, size: 4}, {name: "free", off: 16, size: uint64(len(glibcFree)), code: glibcFree}}}
	if err := os.WriteFile(file, image.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := OpenELF(file)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Functions("maloc"); !errors.Is(err, ErrNoSymbol) || !strings.Contains(err.Error(), "it has malloc") {
		t.Errorf("error %v, want it to suggest malloc", err)
	}
	all, err := e.Functions("*")
	if err != nil || len(all) != 2 || all[0].Name != "free" || all[1].Name != "malloc" {
		t.Fatalf("functions %+v, %v", all, err)
	}
	x, err := e.Explain(all[0])
	if err != nil || x.Placement.Delta != 3 {
		t.Errorf("free: %+v, %v", x, err)
	}
	entry, ret := e.Points(all[0], true)
	if entry.Offset != all[0].Offset+3 || ret == nil || ret.Offset != entry.Offset || !ret.Return || entry.Return {
		t.Errorf("entry %+v and return %+v of free", entry, ret)
	}
	if _, err := e.Functions("x*"); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("a pattern of nothing: %v", err)
	}
}
