package probe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Name
	}{
		{"uprobe:/bin/x:main", Name{false, "/bin/x", "main"}},
		{"uretprobe:/a:b/x:f*", Name{true, "/a:b/x", "f*"}},
	} {
		if got, err := ParseName(tt.in); err != nil || got != tt.want {
			t.Errorf("ParseName(%q) = %+v, %v", tt.in, got, err)
		}
	}
	for _, bad := range []string{"", "uprobe", "uprobe:", "uprobe:/bin/x", "uprobe::f", "uprobe:/bin/x:", "kprobe:/x:f"} {
		if got, err := ParseName(bad); err == nil {
			t.Errorf("ParseName(%q) = %+v, want an error", bad, got)
		}
	}
}

func TestExplainText(t *testing.T) {
	x := &Explanation{
		Name:   Name{Path: "/usr/lib/x86_64-linux-gnu/libc.so.6"},
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
	_, err := Explain("uprobe:" + file + ":maloc")
	if !errors.Is(err, ErrNoSymbol) || !strings.Contains(err.Error(), "it has malloc") {
		t.Errorf("error %v, want it to suggest malloc", err)
	}
	x, err := Explain("uprobe:" + file + ":free")
	if err != nil || x.Placement.Delta != 3 {
		t.Errorf("free: %+v, %v", x, err)
	}
	x, err = Explain("uretprobe:" + file + ":free")
	if err != nil || x.Placement.Delta != 0 || x.Placement.Class != SingleStep {
		t.Errorf("return of free: %+v, %v", x, err)
	}
	var b strings.Builder
	if err := WriteList(&b, "uprobe:"+file+":*"); err != nil || b.String() != "uprobe:"+file+":free\nuprobe:"+file+":malloc\n" {
		t.Errorf("list: %q, %v", b.String(), err)
	}
	if err := WriteList(&b, "uprobe:"+file+":x*"); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("list of nothing: %v", err)
	}
	if _, err := Explain("uprobe:/nonexistent:f"); err == nil {
		t.Error("a missing file was explained")
	}
}
