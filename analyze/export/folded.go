package export

import (
	"bufio"
	"io"
	"slices"
	"strconv"
	"strings"
)

// folder replaces what has a meaning in folded stacks.
var folder = strings.NewReplacer(";", ":")

// Folded writes a line per stack: its frames from the outermost to the
// innermost, joined by semicolons, a space, and value i of the sample. A
// semicolon in a name becomes a colon. Stacks with the value 0 are left out, so
// the sum of the lines is the sum of the samples.
func Folded(w io.Writer, samples []Sample, i int) error {
	lines := make([]string, 0, len(samples))
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
		lines = append(lines, strings.Join(names, ";")+" "+strconv.FormatUint(s.Values[i], 10)+"\n")
	}
	slices.Sort(lines)
	bw := bufio.NewWriter(w)
	for _, l := range lines {
		if _, err := bw.WriteString(l); err != nil {
			return err
		}
	}
	return bw.Flush()
}
