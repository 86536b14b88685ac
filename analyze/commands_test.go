package analyze

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

func TestCommandsScenarios(t *testing.T) { golden(t, "commands") }

func TestCommandsDocs(t *testing.T) { docKeys(t, commandsDocument{}, commandRow{}, commandExample{}) }

// TestCommandsNesting: own time is without the commands directly inside, and
// nothing else.
func TestCommandsNesting(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/commands-redis.txtar")
	var doc struct {
		Commands []struct {
			Command string
			Calls   uint64
			TotalNs uint64 `json:"total_ns"`
			SelfNs  uint64 `json:"self_ns"`
			P50     int64  `json:"p50_ns"`
			P99     int64  `json:"p99_ns"`
			P999    int64  `json:"p999_ns"`
			Max     int64  `json:"max_ns"`
		}
	}
	if err := json.Unmarshal(render(t, runAnalysis(t, "commands", s.Reader, format.Filter{}), "json", 0), &doc); err != nil {
		t.Fatal(err)
	}
	want := map[string][3]uint64{ // calls, total, own
		"eval": {2, 13000, 7000 + 2500}, "exec": {2, 7500, 1000 + 3000}, "incr": {2, 2500, 2500}, "ping": {1, 1000, 1000},
		"get": {1002, 1000*1000 + 999*500 + 500 + 700, 1000*1000 + 999*500 + 500 + 700},
	}
	found := 0
	for _, c := range doc.Commands {
		w, ok := want[c.Command]
		if !ok {
			continue
		}
		found++
		if got := [3]uint64{c.Calls, c.TotalNs, c.SelfNs}; got != w {
			t.Errorf("%s: calls, total, own %v, want %v", c.Command, got, w)
		}
		if c.P50 > c.P99 || c.P99 > c.P999 || c.P999 > c.Max || c.Max == 0 {
			t.Errorf("%s: %+v", c.Command, c)
		}
	}
	if found != len(want) {
		t.Errorf("%d of %d commands", found, len(want))
	}
}

// TestCommandsClock: sums are of the server's count where it is known, without what a
// command inside of the same name added to it; quantiles are within its unit.
func TestCommandsClock(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/commands-clock.txtar")
	res := runAnalysis(t, "commands", s.Reader, format.Filter{}).(*commandsResult)
	want := map[string][3]int64{ // total and own time by the server, the median really
		"get": {4000, 4000, 400}, "incr": {6000, 6000, 3000}, "eval": {100_000, 86_000, 100_000},
		"mod.run": {100_000 + 10_000, 100_000 - 34_000 + 10_000, 10_000}, "mod.other": {30_000, 30_000 - 14_000, 30_000},
	}
	found := 0
	for _, g := range res.rows {
		w, ok := want[g.name]
		if !ok {
			continue
		}
		found++
		if int64(g.total) != w[0] || int64(g.self) != w[1] {
			t.Errorf("%s: %d ns, %d of its own, want %v", g.name, g.total, g.self, w)
		}
		if p50 := g.quantile(0.5); p50 < w[2]-1000 || p50 > w[2]+1000 || g.most > w[0] {
			t.Errorf("%s: median %d, most %d ns, want %v", g.name, p50, g.most, w)
		}
	}
	if found != len(want) || res.timed != 17 {
		t.Errorf("%d of %d commands, %d timed by the server", found, len(want), res.timed)
	}
}

// A command of one word has no argument: what lies behind it in memory is another's.
func TestCommandsAlone(t *testing.T) {
	r := tracetest.Capture(t, `probe {"name":"redis.call","pack":"redis","role":"command","args":[{"name":"command","type":"str"},{"name":"argc","type":"i32"},{"name":"key","type":"str"}]}
1.0 7/7 redis-server call probe=redis.call outcome=returned duration=3000 depth=1 command=ping argc=1 key=rubbish
1.1 7/7 redis-server call probe=redis.call outcome=returned duration=2000 depth=1 command=get argc=2 key=mine
`)
	got := string(render(t, runAnalysis(t, "commands", r, format.Filter{}), "text", 80))
	if strings.Contains(got, "rubbish") || !strings.Contains(got, "get mine") {
		t.Errorf("%s", got)
	}
}
