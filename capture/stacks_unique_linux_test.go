package capture_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// uniqueStack are the functions of stack n of testdata/programs/bench/stacks.c,
// innermost first.
func uniqueStack(n uint32) []string {
	var out []string
	for level := range 30 + n%32 {
		digit := n >> (3 * level) & 7
		if level >= 6 {
			digit = n * 2654435761 >> (level * 5 % 29) & 7
		}
		out = append(out, "f"+strconv.Itoa(int(digit)))
	}
	out = append(out, "main")
	slices.Reverse(out[:len(out)-1])
	return append([]string{"make"}, out...)
}

// TestStacksUnique: of a program that has a stack but once, each is complete and
// right, unwound at once and later.
func TestStacksUnique(t *testing.T) {
	kerneltest.Require(t)
	count := uint32(kerneltest.Repeat(3000))
	prog := kerneltest.Build(t, "../testdata/programs/bench/stacks.c", noFramePointers...)
	for _, way := range []string{capture.UnwindOnline, capture.UnwindOffline} {
		_, path := recordStacks(t, func(o *capture.Options) { o.Unwind = way }, prog, strconv.Itoa(int(count)))
		if way == capture.UnwindOffline {
			path = finishStacks(t, path)
		}
		taken := takenStacks(t, path)
		wrong := 0
		for n := range count {
			want := uniqueStack(n)
			if !slices.ContainsFunc(taken[uint64(16+n)], func(s takenStack) bool {
				s.functions = slices.DeleteFunc(s.functions, func(f string) bool { return f == "next" }) // it is inlined
				return s.end == format.EndComplete && len(s.functions) >= len(want) && slices.Equal(s.functions[:len(want)], want)
			}) {
				if wrong++; wrong < 5 {
					t.Errorf("%s: stack %d:\n got %+v\nwant %v", way, n, taken[uint64(16+n)], want)
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d of %d stacks are wrong", way, wrong, count)
		}
	}
}
