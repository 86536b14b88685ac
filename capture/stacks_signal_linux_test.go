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

// TestStackAlternative: the stack of a handler that has a stack of its own goes on where
// the signal came, to the start of the process or the thread, from its first allocation
// on; also from a handler that interrupted another, and if it is unwound later.
func TestStackAlternative(t *testing.T) {
	for _, c := range some([]struct {
		name   string
		unwind string
		flags  []string
	}{{"shared", "", nil}, {"static", "", []string{"-static"}}, {"offline", capture.UnwindOffline, nil}}) {
		t.Run(c.name, func(t *testing.T) {
			program := buildStack(t, "altstack.c", append(c.flags, "-pthread", "-fno-partial-inlining")...)
			_, path := recordStacks(t, func(o *capture.Options) { o.Unwind = c.unwind }, program)
			if c.unwind != "" {
				path = finishStacks(t, path)
			}
			got, want := handlerStacks(t, path), handlersTold()
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
		})
	}
}

// handlersTold is how often altstack.c allocates from where.
func handlersTold() map[string]int {
	want := map[string]int{}
	for _, start := range []string{"main", "thread"} {
		for i := range 100 {
			below := strings.Repeat("interrupted;", i%4+1) + "all;" + start
			want["4000: keep;on_first;"+below]++
			want["5000: keep;on_second;on_first;"+below]++
			want["6000: keep;on_first;"+strings.Repeat("interrupted;", 61)+"all;"+start]++
		}
	}
	return want
}

// handlerStacks is the same of a capture: functions of the program alone.
func handlerStacks(t *testing.T, path string) map[string]int {
	t.Helper()
	own := []string{"keep", "on_first", "on_second", "interrupted", "all", "main", "thread"}
	got := map[string]int{}
	for size, stacks := range takenStacks(t, path) {
		if size != 4000 && size != 5000 && size != 6000 {
			continue
		}
		for _, s := range stacks {
			names := slices.DeleteFunc(s.functions, func(name string) bool { return !slices.Contains(own, name) })
			text := fmt.Sprintf("%d: %s", size, strings.Join(names, ";"))
			if s.end != format.EndComplete {
				text += fmt.Sprintf(" (%v)", s.end)
			}
			got[text]++
		}
	}
	return got
}
