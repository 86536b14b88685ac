package capture_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/format"
)

// TestStackDeep: stacks of 120 to 210 KiB are complete, also where a function has an array so
// large, and so little of it in use, that a page of it is not there.
func TestStackDeep(t *testing.T) {
	program := buildStack(t, "deep.c", "-pthread", "-fno-stack-clash-protection")
	_, path := recordStacks(t, nil, program)
	want := map[string]int{}
	for i := range 20 {
		want["keep;hollow;"+strings.Repeat("level;", 60-i)+"main"]++
		want["keep;hollow;"+strings.Repeat("level;", 40+i)+"thread"]++
	}
	expectStacks(t, ownStacks(t, path, 4000, "keep", "hollow", "level", "main", "thread"), want)
}

// TestStackSplit: a stack of pieces is complete from its first allocation on, as far as the copy
// has room for them, and says that it is not if it has not.
func TestStackSplit(t *testing.T) {
	for _, unwind := range some([]string{capture.UnwindOnline, capture.UnwindOffline}) {
		t.Run(unwind, func(t *testing.T) {
			program := buildStack(t, "split.c", "-pthread", "-fsplit-stack")
			_, path := recordStacks(t, func(o *capture.Options) { o.Unwind = unwind }, program)
			if unwind == capture.UnwindOffline {
				path = finishStacks(t, path)
			}
			want := map[string]int{}
			for i := range 60 {
				want["keep;"+strings.Repeat("level;", i+1)+"main"] += 2
				want["keep;"+strings.Repeat("level;", i+1)+"thread"]++
			}
			own := []string{"keep", "level", "main", "thread"}
			expectStacks(t, ownStacks(t, path, 4000, own...), want)
			for stack, n := range ownStacks(t, path, 5000, own...) {
				if n != 1 || !strings.HasSuffix(stack, "level (copy)") || strings.Count(stack, "level") < 60 {
					t.Errorf("%d times the stack that is too large: %s", n, stack)
				}
			}
		})
	}
}

// ownStacks is how often blocks of a size come from which functions of a program's own. Of
// incomplete stacks it says why they end.
func ownStacks(t *testing.T, path string, size uint64, own ...string) map[string]int {
	t.Helper()
	got := map[string]int{}
	for _, s := range takenStacks(t, path)[size] {
		names := slices.DeleteFunc(s.functions, func(name string) bool { return !slices.Contains(own, name) })
		text := strings.Join(names, ";")
		if s.end != format.EndComplete {
			text += fmt.Sprintf(" (%v)", s.end)
		}
		got[text]++
	}
	return got
}

func expectStacks(t *testing.T, got, want map[string]int) {
	t.Helper()
	for _, stack := range slices.Sorted(maps.Keys(got)) {
		if want[stack] == 0 {
			t.Errorf("%d times %s, which is no stack of the program", got[stack], stack)
		}
	}
	for _, stack := range slices.Sorted(maps.Keys(want)) {
		if got[stack] != want[stack] {
			t.Errorf("%d times %s, want %d", got[stack], stack, want[stack])
		}
	}
}
