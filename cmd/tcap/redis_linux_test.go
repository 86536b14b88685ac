package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

type commandTotals struct {
	Commands []commandRow
	Nested   uint64

	ServerTimed uint64 `json:"server_timed"`
}

type commandRow struct {
	Command string
	Calls   uint64
	TotalNs int64 `json:"total_ns"`
	P50Ns   int64 `json:"p50_ns"`
}

// startRedis runs a server that keeps nothing.
func startRedis(t *testing.T, exe string) *server {
	t.Helper()
	port := freePort(t)
	return start(t, port, exe, "--port", fmt.Sprint(port), "--save", "", "--dir", t.TempDir(), "--bind", "127.0.0.1")
}

// TestRedis: counts and times per command are those of INFO commandstats, exactly, with
// scripts and transactions; of every command that is frequent the median is redis's, to
// the microsecond in which it counts.
func TestRedis(t *testing.T) {
	kerneltest.Require(t)
	s := startRedis(t, "redis-server")
	cli := func(input string, args ...string) string {
		t.Helper()
		return runClient(t, input, "redis-cli", append([]string{"-p", fmt.Sprint(s.port)}, args...)...)
	}
	r := recordNow(t, "-e", "redis,tcp")
	cli("", "config", "resetstat")
	runClient(t, "", "redis-benchmark", "-p", fmt.Sprint(s.port), "-n", "1000", "-q")
	cli("", "eval", "for i=1,20 do redis.call('incr', 'n'); redis.call('set', 'k', i) end return redis.call('get', 'n')", "0")
	for range 20 {
		cli("", "eval", "local x = 0; for i=1,200000 do x = x + i end return x", "0")
	}
	cli("MULTI\nINCR n\nGET n\nLPUSH l 1\nEXEC\nBLPOP l 1\n")
	stats := commandStats(t, cli("", "info", "commandstats"))
	medians := medianTimes(t, cli("", "info", "latencystats"))
	r.stop()

	var got commandTotals
	r.analyze(&got, "commands", "--pid", fmt.Sprint(s.pid()))
	checkCommands(t, &got, stats, medians)
	if got.Nested != 41+3 {
		t.Errorf("%d commands in scripts and transactions, want 44", got.Nested)
	}
	var by struct{ Commands []struct{ Group string } }
	r.analyze(&by, "commands", "--by", "client", "--pid", fmt.Sprint(s.pid()))
	for _, g := range by.Commands {
		if !strings.HasPrefix(g.Group, "127.0.0.1:") && g.Group != "(script or transaction)" {
			t.Errorf("client %q", g.Group)
		}
	}
}

// checkCommands holds what was recorded against what redis says.
func checkCommands(t *testing.T, got *commandTotals, stats map[string]stat, medians map[string]time.Duration) {
	t.Helper()
	seen := map[string]bool{}
	calls := uint64(0)
	for _, c := range got.Commands {
		seen[c.Command] = true
		calls += c.Calls
		want := stats[c.Command]
		if c.Command == "info" { // of which the first had not ended when it told
			if c.Calls != 2 {
				t.Errorf("info: %d calls, want 2", c.Calls)
			}
			continue
		}
		total, median := time.Duration(c.TotalNs), time.Duration(c.P50Ns)
		if c.Calls != want.calls || total != want.time {
			t.Errorf("%s: %d calls in %v, INFO commandstats has %d in %v", c.Command, c.Calls, total, want.calls, want.time)
		}
		// Each time is within a microsecond of what redis counted, and both sides round
		// by 1 %. Of few calls, the one in the middle is another one by another way to count.
		if want.calls >= 200 && !within(median, medians[c.Command], 0.02, time.Microsecond+time.Duration(0.02*float64(medians[c.Command]))) {
			t.Errorf("%s: median %v, redis says %v", c.Command, median, medians[c.Command])
		}
		t.Logf("%-8s %5d calls: median %8v, redis %8v; total %10v", c.Command, c.Calls, median, medians[c.Command], total)
	}
	if got.ServerTimed != calls {
		t.Errorf("the server's count was read of %d calls, there are %d", got.ServerTimed, calls)
	}
	for name := range stats {
		if !seen[name] && name != "info" {
			t.Errorf("%s was not recorded", name)
		}
	}
}

var medianLine = regexp.MustCompile(`(?m)^latency_percentiles_usec_([^:]+):p50=([0-9.]+),`)

// medianTimes reads the medians of INFO latencystats.
func medianTimes(t *testing.T, info string) map[string]time.Duration {
	t.Helper()
	out := map[string]time.Duration{}
	for _, m := range medianLine.FindAllStringSubmatch(info, -1) {
		us, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatalf("%q", m[0])
		}
		out[m[1]] = time.Duration(us * float64(time.Microsecond))
	}
	if len(out) < 10 {
		t.Fatalf("latencystats:\n%s", info)
	}
	return out
}

type stat struct {
	calls uint64
	time  time.Duration
}

var statLine = regexp.MustCompile(`(?m)^cmdstat_([^:]+):calls=(\d+),usec=(\d+),`)

func commandStats(t *testing.T, info string) map[string]stat {
	t.Helper()
	stats := map[string]stat{}
	for _, m := range statLine.FindAllStringSubmatch(info, -1) {
		calls, err1 := strconv.ParseUint(m[2], 10, 64)
		us, err2 := strconv.ParseInt(m[3], 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("%q", m[0])
		}
		stats[m[1]] = stat{calls, time.Duration(us) * time.Microsecond}
	}
	if len(stats) < 10 {
		t.Fatalf("commandstats:\n%s", info)
	}
	return stats
}

// TestRedisWrongVersion: with the layout of another version no rubbish is told. A few
// calls are, whose commands could not be read, and then no more, and that is said.
func TestRedisWrongVersion(t *testing.T) {
	kerneltest.Require(t)
	text, err := os.ReadFile("../../capture/pack/packs/redis.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// 7.0.1 to 7.0.15 taken for 7.0.0, which lies differently.
	wrong := strings.Replace(string(text), "'>=7.0.1 <7.2', offsets: {argc: 72, argv: 80, cmd: 112, text: 8, name: 400", "'>=7.0.1 <7.2', offsets: {argc: 64, argv: 72, cmd: 104, text: 8, name: 400", 1)
	if wrong == string(text) {
		t.Fatal("the pack has no such layout")
	}
	file := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(file, []byte(wrong), 0o644); err != nil {
		t.Fatal(err)
	}
	s := startRedis(t, "redis-server")
	r := recordNow(t, "-e", file, "-p", fmt.Sprint(s.pid()))
	runClient(t, "", "redis-benchmark", "-p", fmt.Sprint(s.port), "-n", "200", "-q", "-t", "set,get")
	r.stop()
	var got commandTotals
	r.analyze(&got, "commands")
	if len(got.Commands) > 1 || len(got.Commands) == 1 && (got.Commands[0].Calls > 16 || got.Commands[0].Command != "(name unreadable)") || !strings.Contains(r.log.String(), "reads what cannot be") {
		t.Errorf("of a layout that is wrong: %+v; %s", got.Commands, r.log.String())
	}
}
