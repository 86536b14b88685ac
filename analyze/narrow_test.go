package analyze

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

// TestWidths: no report has a line that its terminal would break, but for words that are
// longer than the line, and none cuts a name or leaves out a column where it need not.
func TestWidths(t *testing.T) {
	flags := map[string][]string{
		"leaks":  {"", "--tree", "--caller", "--group-by function", "--group-by line", "--mmap"},
		"heap":   {"", "--tree", "--group-by function"},
		"tcp":    {"", "--summary", "-t", "--stacks"},
		"calls":  {"", "--by caller", "--tree"},
		"closes": {""}, "queries": {"", "--by connection"}, "commands": {"", "--by client"}, "timeline": {""},
	}
	lines, analyses := 0, map[string]bool{}
	for _, s := range tracetest.Glob(t, "../testdata/scenarios/*.txtar") {
		for _, a := range List() {
			for _, f := range flags[a.Name] {
				res := runAnalysis(t, a.Name, s.Reader, format.Filter{}, strings.Fields(f)...)
				if strings.Contains(s.Path, "heap-hostile") {
					continue // sizes of 20 figures
				}
				for _, width := range []int{40, 57, 80, 132, export.Wide} {
					text := string(render(t, res, "text", width))
					lines += checkWidth(t, s.Path+" "+a.Name+" "+f, text, width)
					analyses[a.Name] = true
				}
			}
		}
	}
	if lines < 10000 || len(analyses) != len(List()) {
		t.Errorf("%d lines of %d analyses were looked at", lines, len(analyses))
	}
}

func checkWidth(t *testing.T, what, text string, width int) (lines int) {
	t.Helper()
	for line := range strings.Lines(text) {
		lines++
		line = strings.TrimSuffix(line, "\n")
		n := utf8.RuneCountInString(line)
		if n > width && len(strings.Fields(line)) > 1 {
			t.Errorf("%s: a line of %d columns, of %d: %q", what, n, width, line)
		}
		if width == export.Wide && strings.Contains(line, "--wide") {
			t.Errorf("%s: --wide leaves out: %q", what, line)
		}
	}
	return lines
}

// TestTableLayout: what goes first when a table is too wide.
func TestTableLayout(t *testing.T) {
	long := "a_function_with_a_name_of_forty_letters_"
	tab := export.Table{
		Head: []string{"COUNT", "MEDIAN", "NAME"}, Right: []bool{true, true, false}, Drop: []int{0, 1, 0},
		Rows: [][]string{{"1234567", "12.0 ms", long}, {"remark on the row above, which is wrapped where it is too long for the line"}},
	}
	for width, want := range map[int]string{
		export.Wide: "  COUNT   MEDIAN  NAME\n1234567  12.0 ms  " + long + "\n",
		80:          "  COUNT   MEDIAN  NAME\n1234567  12.0 ms  " + long + "\n",
		50:          "  COUNT   MEDIAN  NAME\n1234567  12.0 ms  a_function_with_…_forty_letters_\n",
		40:          "  COUNT   MEDIAN  NAME\n1234567  12.0 ms  a_function_…y_letters_\n",
	} {
		var b bytes.Buffer
		text := export.NewText(&b, width)
		text.Table(tab, "")
		if err := text.Flush(); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(b.String(), want) {
			t.Errorf("width %d:\n%s\nwant\n%s", width, b.String(), want)
		}
		checkWidth(t, "table", b.String(), width)
	}
	tab.Head[0], tab.Rows[0][0] = "A VERY LONG HEADING", "1"
	var b bytes.Buffer
	text := export.NewText(&b, 40)
	text.Table(tab, "")
	text.Flush()
	if got := b.String(); !strings.Contains(got, "--wide also shows MEDIAN.") || strings.Contains(got, "12.0 ms") {
		t.Errorf("a column that does not fit is not left out:\n%s", got)
	}
}
