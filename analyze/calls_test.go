package analyze

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

func runCalls(t testing.TB, r *format.Reader, f format.Filter, args ...string) (*callsResult, error) {
	t.Helper()
	fs := pflag.NewFlagSet("calls", pflag.ContinueOnError)
	runner := callsAnalyzer.New(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	res, err := runner.Run(context.Background(), r, f)
	if err != nil {
		return nil, err
	}
	return res.(*callsResult), nil
}

func TestCallsScenarios(t *testing.T) {
	for _, s := range tracetest.Glob(t, "../testdata/scenarios/calls-*.txtar") {
		for section, how := range map[string]struct{ format, args string }{
			"want/calls.txt":         {"text", ""},
			"want/calls.json":        {"json", "--by cmd --rows"},
			"want/calls-by-cmd.txt":  {"text", "--by cmd --probe uretprobe:*"},
			"want/calls-caller.csv":  {"csv", "--by caller"},
			"want/calls-rows.txt":    {"text", "--rows"},
			"want/calls-rows.csv":    {"csv", "--rows --slower 2us"},
			"want/calls-outcome.txt": {"text", "--by outcome --top 2"},
			"want/calls-tree.txt":    {"text", "--tree --caller"},
			"want/calls-time.txt":    {"text", "--tree --cost time"},
			"want/calls-folded.txt":  {"folded", ""},
		} {
			res, err := runCalls(t, s.Reader, format.Filter{}, strings.Fields(how.args)...)
			if err != nil {
				t.Fatal(err)
			}
			s.Golden(t, section, render(t, res, how.format, 80))
		}
	}
}

func TestCallsFilters(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/calls-values.txtar")
	for name, f := range map[string]format.Filter{
		"6": {Pids: []uint32{100}}, "1": {Comms: []string{"other"}},
		"2": {From: tracetest.Start.Mono + 35_000, To: tracetest.Start.Mono + 55_000},
	} {
		res, err := runCalls(t, s.Reader, f, "--probe", "uretprobe*")
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(res.list[0].calls); got != name {
			t.Errorf("%+v: %s calls, want %s", f, got, name)
		}
	}
	if _, err := runCalls(t, s.Reader, format.Filter{}, "--by", "nosuch"); err == nil || !strings.Contains(err.Error(), "there are caller, comm, outcome, pid, tid, cmd, data") {
		t.Errorf("--by nosuch: %v", err)
	}
	if _, err := runCalls(t, s.Reader, format.Filter{}, "--probe", "nosuch*"); err == nil || !strings.Contains(err.Error(), "there are uretprobe:app:serve, mark") {
		t.Errorf("--probe nosuch: %v", err)
	}
}

func TestCallsOfNothing(t *testing.T) {
	res, err := runCalls(t, tracetest.Capture(t, "0.1 1/1 x heap.free addr=1"), format.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(render(t, res, "text", 80)); !strings.Contains(text, "no probe was declared") {
		t.Error(text)
	}
	if !json.Valid(render(t, res, "json", 80)) {
		t.Error("JSON")
	}
}

// Memory is bounded where every call has a value of its own.
func TestCallsManyValues(t *testing.T) {
	var b strings.Builder
	b.WriteString(`probe {"name":"p","args":[{"name":"n","type":"u64"}]}` + "\n")
	const n = maxCallGroups + 500
	for i := range n {
		fmt.Fprintf(&b, "%d.0 1/1 x call probe=p duration=1 n=%d\n", i, i)
	}
	res, err := runCalls(t, tracetest.Capture(t, b.String()), format.Filter{}, "--by", "n")
	if err != nil {
		t.Fatal(err)
	}
	s := res.list[0]
	if len(s.rows) != maxCallGroups+1 || s.rows[0].name != "(other)" || s.rows[0].calls != 500 || !s.args[0].more || len(s.args[0].values) != maxArgValues ||
		s.args[0].least != 0 || s.args[0].most != n-1 {
		t.Errorf("%d rows, first %+v, argument %d to %d", len(s.rows), s.rows[0].name, s.args[0].least, s.args[0].most)
	}
}
