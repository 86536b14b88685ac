package analyze

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

// runAnalysis runs an analysis by its name, with its flags.
func runAnalysis(t testing.TB, name string, r *format.Reader, f format.Filter, args ...string) Result {
	t.Helper()
	for _, a := range List() {
		if a.Name != name {
			continue
		}
		fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
		runner := a.New(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		res, err := runner.Run(context.Background(), r, f)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	t.Fatalf("no analysis is called %s", name)
	return nil
}

// golden renders every scenario of an analysis in every form it has, and once
// more in text for each section flags.a and on.
func golden(t *testing.T, analysis string) {
	t.Helper()
	for _, s := range tracetest.Glob(t, "../testdata/scenarios/"+analysis+"-*.txtar") {
		t.Run(strings.TrimSuffix(s.Path[strings.LastIndex(s.Path, "/")+1:], ".txtar"), func(t *testing.T) {
			res := runAnalysis(t, analysis, s.Reader, format.Filter{})
			text := render(t, res, "text", 80)
			for line := range strings.Lines(string(text)) {
				if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
					t.Errorf("a line of %d columns: %s", n, line)
				}
			}
			s.Golden(t, "want/text", text)
			s.Golden(t, "want/csv", render(t, res, "csv", 0))
			js := render(t, res, "json", 0)
			if !json.Valid(js) {
				t.Error("not JSON")
			}
			s.Golden(t, "want/json", js)
			for _, name := range []string{"a", "b", "c"} {
				if flags, ok := s.Section("flags." + name); ok {
					got := runAnalysis(t, analysis, s.Reader, format.Filter{}, strings.Fields(flags)...)
					s.Golden(t, "want/"+name, render(t, got, "text", 80))
				}
			}
		})
	}
}

// The scenarios of closes:
//
//	descriptors used again, a close after a reset, upstream, a killed worker    closes-nginx
//	every system call and every verdict                                         closes-plain
//	only entries are probed; another thread                                     closes-entry-only
func TestClosesScenarios(t *testing.T) { golden(t, "closes") }

// TestClosesSelection: the common filters select by owner, as those of tcp do.
func TestClosesSelection(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/closes-nginx.txtar")
	for want, f := range map[int]format.Filter{
		8: {},
		2: {Pids: []uint32{201}},
		0: {Comms: []string{"curl"}},
		5: {From: tracetest.Start.Mono + 2_006_100_000}, // lived after that, connection 4's remainder included
	} {
		res := runAnalysis(t, "closes", s.Reader, f).(*closesResult)
		if len(res.rows) != want {
			t.Errorf("%+v: %d connections, want %d", f, len(res.rows), want)
		}
	}
}

// TestClosesDocs: the documents name every reason, initiator and key.
func TestClosesDocs(t *testing.T) {
	docKeys(t, closeRow{}, closeGroup{}, closeKey{}, closesDocument{})
	words := document(t, "analyze.md")
	for _, w := range append(closeReasons[:], closeInitiators[:]...) {
		if !strings.Contains(words, "`"+w+"`") {
			t.Errorf("docs/analyze.md does not name %s", w)
		}
	}
}
