package capture_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture"
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
			expectStacks(t, handlerStacks(t, path), handlersTold())
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
	got := map[string]int{}
	for _, size := range []uint64{4000, 5000, 6000} {
		for stack, n := range ownStacks(t, path, size, "keep", "on_first", "on_second", "interrupted", "all", "main", "thread") {
			got[fmt.Sprintf("%d: %s", size, stack)] += n
		}
	}
	return got
}
