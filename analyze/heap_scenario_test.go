package analyze

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

// TestHeapScenarios runs the analyses that each scenario lists in its run
// section, a line per run such as
//
//	leaks json --older 5ns --from 10
//
// and compares what they print with the section named after the line. --from
// and --to are ns since the start of the recording, --suppress names a section.
func TestHeapScenarios(t *testing.T) {
	for _, s := range tracetest.Glob(t, "../testdata/scenarios/heap-*.txtar") {
		t.Run(strings.TrimSuffix(filepath.Base(s.Path), ".txtar"), func(t *testing.T) {
			runs, ok := s.Section("run")
			if !ok {
				runs = "leaks text\nheap text\n"
			}
			for line := range strings.Lines(runs) {
				line = strings.TrimSpace(line)
				s.Golden(t, "want: "+line, runScenario(t, s, line))
			}
		})
	}
}

func runScenario(t *testing.T, s *tracetest.Scenario, line string) []byte {
	t.Helper()
	words := strings.Fields(line)
	if words[0] == "diff" {
		return renderScenario(t, runDiff(t, s, words[2:]), words[1], 80)
	}
	res, width := runLine(t, s.Reader, words[0], words[2:], func(section string) string {
		text, ok := s.Section(section)
		if !ok {
			t.Fatalf("%s: no section %s", s.Path, section)
		}
		name := filepath.Join(t.TempDir(), "suppressions")
		writeFile(t, name, text)
		return name
	})
	return renderScenario(t, res, words[1], width)
}

// runDiff compares the capture of a scenario's trace with that of its section
// called after.
func runDiff(t *testing.T, s *tracetest.Scenario, args []string) Result {
	t.Helper()
	return compare(t, s.Reader, s.Capture(t, "after"), args)
}

func compare(t *testing.T, before, after *format.Reader, args []string) *Diff {
	t.Helper()
	fs := pflag.NewFlagSet("diff", pflag.ContinueOnError)
	d := NewDiffer(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	res, err := d.Run(context.Background(), before, after, format.Filter{}, format.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func renderScenario(t *testing.T, res Result, form string, width int) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Render(&buf, res, form, width); err != nil {
		t.Fatalf("%s: %v", form, err)
	}
	return buf.Bytes()
}

// runLine runs an analysis with flags as on the command line.
func runLine(t testing.TB, r *format.Reader, name string, args []string, section func(string) string) (Result, int) {
	t.Helper()
	var f format.Filter
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	from := fs.Int64("from", 0, "")
	to := fs.Int64("to", 0, "")
	pids := fs.UintSlice("pid", nil, "")
	width := fs.Int("width", 80, "")
	suppress := fs.String("suppress", "", "")
	run := analyzerNamed(t, name).New(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	start := r.Header().Start.Mono
	if *from != 0 {
		f.From = start + *from
	}
	if *to != 0 {
		f.To = start + *to
	}
	for _, p := range *pids {
		f.Pids = append(f.Pids, uint32(p))
	}
	if *suppress != "" {
		if err := fs.Set("suppressions", section(*suppress)); err != nil {
			t.Fatal(err)
		}
	}
	res, err := run.Run(context.Background(), r, f)
	if err != nil {
		t.Fatal(err)
	}
	return res, *width
}

func analyzerNamed(t testing.TB, name string) Analyzer {
	t.Helper()
	for _, a := range List() {
		if a.Name == name {
			return a
		}
	}
	t.Fatalf("no analyzer %q", name)
	return Analyzer{}
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLeakedAgrees checks that --cost leaked means the same in both analyses.
func TestLeakedAgrees(t *testing.T) {
	leaked := uint64(0)
	for _, s := range tracetest.Glob(t, "../testdata/scenarios/heap-*.txtar") {
		leaks, _ := runLine(t, s.Reader, "leaks", []string{"--builtin-suppressions=false"}, nil)
		heap, _ := runLine(t, s.Reader, "heap", nil, nil)
		var sum Amount
		for i := range heap.(*Heap).stacks {
			a := heap.(*Heap).stacks[i].Leaked
			sum.Blocks, sum.Bytes = sum.Blocks+a.Blocks, addSat(sum.Bytes, a.Bytes)
		}
		if want := leaks.(*Leaks).Total; sum != want {
			t.Errorf("%s: heap says that %+v leaked, leaks %+v", s.Path, sum, want)
		}
		leaked += sum.Blocks
	}
	if leaked == 0 {
		t.Error("no scenario leaks anything")
	}
}
