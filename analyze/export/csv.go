package export

import (
	"encoding/csv"
	"io"
	"slices"
	"strings"
)

// CSV writes records as RFC 4180 has them, quotes where they are needed, but for the
// ends of lines, which are those that cut and awk take. The first record should name
// the columns.
func CSV(w io.Writer, records [][]string) error {
	cw := csv.NewWriter(w)
	if err := cw.WriteAll(records); err != nil {
		return err
	}
	return cw.Error()
}

// FoldedName is a stack on one line, as Folded has it without the value.
func FoldedName(stack []Frame) string {
	names := make([]string, len(stack))
	for i := range stack {
		names[i] = folder.Replace(Escape(stack[i].Name()))
	}
	slices.Reverse(names)
	return strings.Join(names, ";")
}
