package export

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

var bytesView = TreeView{Columns: []Column{{Head: "BYTES", Value: 1, Bytes: true}, {Head: "BLOCKS", Value: 0}}, Grain: ByFunction, MinPercent: 0.5}

func drawTree(t *testing.T, width int, samples []Sample, v TreeView) string {
	t.Helper()
	var buf bytes.Buffer
	x := NewText(&buf, width)
	x.Tree(samples, v)
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(buf.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > max(width, MinWidth) {
			t.Fatalf("width %d: a line has %d: %s", width, n, line)
		}
	}
	return buf.String()
}

// TestTreeWidth draws stacks that branch at each of 200 levels, and names of a
// hostile capture, within the width.
func TestTreeWidth(t *testing.T) {
	var samples []Sample
	for depth := 1; depth <= 200; depth++ {
		s := Sample{Values: []uint64{1, 1 << 20}}
		for i := range depth {
			s.Stack = append(s.Stack, Frame{Function: fmt.Sprintf("\x1b[2Jlevel<%s>_%d", strings.Repeat("x", 70), depth-i), File: "/f.c", Line: 1})
		}
		samples = append(samples, s)
	}
	samples = append(samples, Sample{Values: []uint64{math.MaxUint64, math.MaxUint64}}, Sample{Values: []uint64{math.MaxUint64, math.MaxUint64}})
	for _, width := range []int{40, 60, 80, 200} {
		for _, callers := range []bool{false, true} {
			v := bytesView
			v.Callers, v.MinPercent = callers, 0
			got := drawTree(t, width, samples, v)
			if strings.Contains(got, "\x1b") {
				t.Error("an escape sequence got through")
			}
			if !callers && !strings.Contains(got, "(too") {
				t.Errorf("width %d: 200 branches fit:\n%s", width, got)
			}
		}
	}
}

// TestTreeCutOff checks that what is below the cut-off is summed up, and that
// the numbers of the branches of a node add up to its own.
func TestTreeCutOff(t *testing.T) {
	var samples []Sample
	for i := range 1000 {
		samples = append(samples, Sample{
			Stack:  []Frame{{Function: fmt.Sprintf("small%d", i)}, {Function: "main"}},
			Values: []uint64{1, 1},
		})
	}
	samples = append(samples, Sample{Stack: []Frame{{Function: "large"}, {Function: "main"}}, Values: []uint64{2, 1000}},
		Sample{Stack: []Frame{{Function: "main"}}, Values: []uint64{3, 48}},
		Sample{Stack: []Frame{{Function: "nothing"}}, Values: []uint64{7, 0}})
	got := drawTree(t, 80, samples, bytesView)
	want := `    BYTES    BLOCKS      %  CALLS, CALLERS ABOVE
  2.0 KiB     1,005 100.00  main
     48 B         3   2.34  ├ (itself)
   1000 B         2  48.83  ├ large
   1000 B     1,000  48.83  └ (1,000 more, each below 0.5 %)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := drawTree(t, 80, nil, bytesView); got != "" {
		t.Errorf("a tree of nothing: %s", got)
	}
}

func TestWithoutAllocator(t *testing.T) {
	names := func(stack []Frame) (out string) {
		for _, f := range stack {
			out += f.Name() + ";"
		}
		return out
	}
	for _, c := range [][2]string{
		{"operator new(unsigned long);f;main", "f;main;"},
		{"operator new[];std::allocator_traits<std::allocator<int> >::allocate;f", "f;"},
		{"_Znwm;f", "f;"},
		{"__rust_alloc;alloc::alloc::alloc;<alloc::alloc::Global as core::alloc::Allocator>::allocate;f", "f;"},
		{"__rustc::__rust_alloc;alloc::alloc::alloc;<alloc::alloc::Global>::alloc_impl_runtime;f", "f;"},
		// As pprof knows them, without template arguments.
		{"operator new;std::__new_allocator::allocate;std::allocator_traits::allocate;f", "f;"},
		{"std::__1::allocator<int>::allocate;f", "f;"},
		{"malloc_wrapper;operator new;main", "malloc_wrapper;operator new;main;"},
		{"my_operator new;main", "my_operator new;main;"},
		{"f;operator new;main", "f;operator new;main;"},
		{"operator new", "operator new;"},
		{"malloc;calloc", "calloc;"},
	} {
		var stack []Frame
		for name := range strings.SplitSeq(c[0], ";") {
			stack = append(stack, Frame{Function: name})
		}
		if got := names(WithoutAllocator(stack)); got != c[1] {
			t.Errorf("%s: got %s, want %s", c[0], got, c[1])
		}
	}
	if got := WithoutAllocator(nil); len(got) != 0 {
		t.Errorf("of no stack: %v", got)
	}
}

// TestGroupBy checks that shares by code add up, and that recursion counts once.
func TestGroupBy(t *testing.T) {
	at := func(function, file string, line uint32) Frame {
		return Frame{Function: function, File: file, Line: line, Module: "/bin/p"}
	}
	samples := []Sample{
		{Stack: []Frame{at("f", "a.c", 1), at("f", "a.c", 2), at("main", "b.c", 9)}, Values: []uint64{1, 10}},
		{Stack: []Frame{at("g", "a.c", 5), at("main", "b.c", 9)}, Values: []uint64{2, 20}},
		{Stack: []Frame{{Module: "/lib/x.so", Offset: 7}}, Values: []uint64{3, 30}},
		{Values: []uint64{4, math.MaxUint64}},
		{Values: []uint64{4, math.MaxUint64}},
	}
	for grain, want := range map[Grain]map[string][2]uint64{
		ByFunction: {"f": {10, 10}, "main": {0, 30}, "g": {20, 20}, "x.so+0x7": {30, 30}, "[no stack]": {math.MaxUint64, math.MaxUint64}},
		ByLine: {"f a.c:1": {10, 10}, "f a.c:2": {0, 10}, "main b.c:9": {0, 30}, "g a.c:5": {20, 20}, "x.so+0x7": {30, 30},
			"[no stack]": {math.MaxUint64, math.MaxUint64}},
		ByFile:   {"a.c": {30, 30}, "b.c": {0, 30}, "[x.so]": {30, 30}, "[unknown]": {math.MaxUint64, math.MaxUint64}},
		ByModule: {"p": {30, 30}, "x.so": {30, 30}, "[unknown]": {math.MaxUint64, math.MaxUint64}},
	} {
		groups := GroupBy(samples, grain)
		if len(groups) != len(want) {
			t.Errorf("%s: %d groups, want %d", grain, len(groups), len(want))
		}
		for _, g := range groups {
			if got, w := [2]uint64{g.Self[1], g.Total[1]}, want[grain.Name(&g.Frame)]; got != w {
				t.Errorf("%s %s: %v, want %v", grain, grain.Name(&g.Frame), got, w)
			}
		}
	}
}
