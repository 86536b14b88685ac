package export

import (
	"bufio"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// folder replaces what has a meaning in folded stacks.
var folder = strings.NewReplacer(";", ":")

// Folded writes a line per stack: its frames from the outermost to the
// innermost, joined by semicolons, a space, and value i of the sample. A
// semicolon in a name becomes a colon. Stacks that differ in places alone are one
// line, and those with the value 0 none, so the sum of the lines is that of the samples.
func Folded(w io.Writer, samples []Sample, i int) error {
	sums := map[string]uint64{}
	for _, s := range samples {
		if s.Values[i] == 0 {
			continue
		}
		names := make([]string, 0, len(s.Stack))
		for f := range s.Stack {
			names = append(names, folder.Replace(Escape(s.Stack[f].Name())))
		}
		if len(names) == 0 {
			names = append(names, "[unknown]")
		}
		slices.Reverse(names)
		name := strings.Join(names, ";")
		if sums[name] += s.Values[i]; sums[name] < s.Values[i] {
			sums[name] = math.MaxUint64
		}
	}
	bw := bufio.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if _, err := bw.WriteString(name + " " + strconv.FormatUint(sums[name], 10) + "\n"); err != nil {
			return err
		}
	}
	return bw.Flush()
}
