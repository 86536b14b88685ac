package export

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain":              "plain",
		"naïve ünicode 漢字":   "naïve ünicode 漢字",
		"a\x1b[2Jb":          `a\x1b[2Jb`,
		"line\nnext\r\t\x00": `line\x0anext\x0d\x09\x00`,
		"\x7f":               `\x7f`,
		"\u202eevil":         `\u202eevil`,
		"\u200bhidden":       `\u200bhidden`,
		"\xff\xfe":           `\xff\xfe`,
		"\u009b31m":          `\u009b31m`,
		"\U000e0001":         `\U000e0001`,
		"\ufffd":             "\ufffd",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestCutName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"std::map<int, long>::insert", "std::map<int, long>::insert"}, // it fits
		{"std::map<int, std::vector<long> >::insert<int&&>", "std::map<…>::insert<…>"},
		{"std::operator<< <std::char_traits<char> >", "std::operator<< <…>"},
		{"std::operator< <std::char_traits<char>, int>", "std::operator< <…>"},
		{"A<a very long argument>::operator->", "A<…>::operator->"},
		{"A<a very long argument>::operator>>", "A<…>::operator>>"},
		{"<alloc::vec::Vec<a::long::Type> as core::Drop>::drop", "…::Vec<…> as core::Drop>::drop"},
		{"unbalanced>::but_longer_than_it_may_be", "…d>::but_longer_than_it_may_be"},
		{"unbalanced<::but_longer_than_it_may_be", "…d<::but_longer_than_it_may_be"},
	} {
		if got := CutName(c.in, 30); got != c.want {
			t.Errorf("CutName(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"short", 5, "short"},
		{"std::vector<int>::push_back", 11, "std::…_back"},
		{"漢字漢字漢字漢字", 5, "漢字…漢字"},
		{"abcdef", 3, "abc"},
	} {
		got := Cut(c.in, c.width)
		if got != c.want || utf8.RuneCountInString(got) > c.width {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", math.MaxUint64: "18,446,744,073,709,551,615"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 30: "1.0 GiB", math.MaxUint64: "16.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %s, want %s", n, got, want)
		}
	}
	for ns, want := range map[int64]string{
		0: "0 ns", 999: "999 ns", 1000: "1 us", 1500: "1.5 us", 999_999: "1 ms", 1e6: "1 ms", 2_250_000_000: "2.25 s",
		59_999_000_000: "59.999 s", 60e9: "1m0s", 3723e9: "1h2m3s", -1500: "-1.5 us", math.MinInt64: "-2562047h47m16s",
	} {
		if got := Duration(ns); got != want {
			t.Errorf("Duration(%d) = %s, want %s", ns, got, want)
		}
	}
}

// TestTextWidth checks that no line is wider than asked for.
func TestTextWidth(t *testing.T) {
	long := strings.Repeat("std::pair<long, ", 20)
	frames := []Frame{
		{Function: long, File: "/src/" + strings.Repeat("x", 90) + ".cc", Line: 1 << 31},
		{Function: "f", Module: "/lib/libc.so.6"},
		{Module: "/lib/libc.so.6", Offset: 0x27305},
		{Offset: 0xdead},
	}
	for _, width := range []int{10, 60, 80, 132} {
		var buf bytes.Buffer
		x := NewText(&buf, width)
		x.Stack(frames, "    ")
		x.Stack(nil, "    ")
		x.Para(strings.Repeat("word ", 60), "  ")
		x.Table(Table{Head: []string{"A", "LONG"}, Right: []bool{true, false}, Rows: [][]string{{"1", long}, {"22", "x"}}}, "  ")
		if err := x.Flush(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(buf.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > max(width, MinWidth) {
				t.Errorf("width %d: a line has %d: %s", width, n, line)
			}
		}
		for _, want := range []string{"libc.so.6+0x27305", "0xdead", "(no stack)", "…"} {
			if !strings.Contains(buf.String(), want) {
				t.Errorf("width %d: no %q in\n%s", width, want, buf.String())
			}
		}
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteErrors(t *testing.T) {
	x := NewText(brokenWriter{}, 80)
	x.Line("%s", strings.Repeat("x", 1<<16))
	if err := x.Flush(); !errors.Is(err, errBroken) {
		t.Errorf("text: error %v", err)
	}
	if err := Folded(brokenWriter{}, []Sample{{Values: []uint64{1}}}, 0); !errors.Is(err, errBroken) {
		t.Errorf("folded: error %v", err)
	}
	if err := CSV(brokenWriter{}, [][]string{{strings.Repeat("x", 1<<16)}}); !errors.Is(err, errBroken) {
		t.Errorf("csv: error %v", err)
	}
}

func TestCSV(t *testing.T) {
	var buf bytes.Buffer
	if err := CSV(&buf, [][]string{{"a", "b"}, {"x,y", "say \"hi\"\nthere"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := buf.String(), "a,b\n\"x,y\",\"say \"\"hi\"\"\nthere\"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPProfHuge checks values and names that a profile cannot hold as they are.
func TestPProfHuge(t *testing.T) {
	deep := make([]Frame, 5000)
	for i := range deep {
		deep[i] = Frame{Module: "m", Offset: math.MaxUint64 - uint64(i)}
	}
	deep[4999].Inlined = true // an outermost frame cannot be inlined into another
	p, err := PProf(Profile{}, []Sample{
		{Stack: deep, Values: []uint64{1, math.MaxUint64, 0, 0}},
		{Stack: []Frame{{Function: "\xff\n<script>"}}, Values: []uint64{1, 1, 1, 1}},
		{Values: []uint64{1, 1, 1, 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Sample[0].Value[1] != math.MaxInt64 || len(p.Sample[0].Location) != 5000 {
		t.Errorf("value %d, %d locations", p.Sample[0].Value[1], len(p.Sample[0].Location))
	}
	var buf bytes.Buffer
	if err := p.Write(&buf); err != nil {
		t.Fatal(err)
	}
}
