package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/capture/doctor"
	"github.com/tcap-dev/tcap/format"
)

// TestNarrowTerminal: info and doctor have no line that a terminal of 40 columns
// would break, but for words that are longer.
func TestNarrowTerminal(t *testing.T) {
	r, err := format.Open(filepath.Join("..", "..", "testdata", "captures", "v1-demo.tcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rep := &doctor.Report{Rows: []doctor.Row{
		{Check: "perf_event_paranoid", State: doctor.OK, Found: "2, which lets tcap open perf events"},
		{Check: "uprobes", State: doctor.Missing, Found: strings.Repeat("many words ", 20), Cost: "all that there is", Fix: "buy a new machine"},
	}}
	for _, width := range []int{40, 60, 80, 200, export.Wide} {
		var info, found bytes.Buffer
		if err := printInfo(&info, survey(r), width, true); err != nil {
			t.Fatal(err)
		}
		if err := printReport(&found, rep, width); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{info.String(), found.String()} {
			if strings.Count(text, "\n") < 4 {
				t.Errorf("width %d: there is hardly anything:\n%s", width, text)
			}
			for line := range strings.Lines(text) {
				line = strings.TrimSuffix(line, "\n")
				if n := utf8.RuneCountInString(line); n > width && len(strings.Fields(line)) > 1 {
					t.Errorf("a line of %d columns, of %d: %q", n, width, line)
				}
			}
		}
		if !strings.Contains(found.String(), "buy a new") || width == export.Wide && strings.Contains(info.String(), "…") {
			t.Errorf("width %d: something is missing:\n%s\n%s", width, &found, &info)
		}
	}
}
