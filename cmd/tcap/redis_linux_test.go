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
	Commands []struct {
		Command string
		Calls   uint64
		TotalNs int64 `json:"total_ns"`
		SelfNs  int64 `json:"self_ns"`
	}
	Nested uint64
}

// TestRedis: counts per command are those of INFO commandstats, exactly, with
// scripts and transactions; the total time of what takes long is within 5 % of
// redis's own.
func TestRedis(t *testing.T) {
	kerneltest.Require(t)
	port := freePort(t)
	s := start(t, port, "redis-server", "--port", fmt.Sprint(port), "--save", "", "--dir", t.TempDir(), "--bind", "127.0.0.1")
	cli := func(input string, args ...string) string {
		t.Helper()
		return runClient(t, input, "redis-cli", append([]string{"-p", fmt.Sprint(port)}, args...)...)
	}
	r := recordNow(t, "-e", "redis,tcp", "-p", fmt.Sprint(s.pid()))
	cli("", "config", "resetstat")
	runClient(t, "", "redis-benchmark", "-p", fmt.Sprint(port), "-n", "500", "-q")
	cli("", "eval", "for i=1,20 do redis.call('incr', 'n'); redis.call('set', 'k', i) end return redis.call('get', 'n')", "0")
	for range 20 {
		cli("", "eval", "local x = 0; for i=1,200000 do x = x + i end return x", "0")
	}
	cli("MULTI\nINCR n\nGET n\nLPUSH l 1\nEXEC\nBLPOP l 1\n")
	stats := commandStats(t, cli("", "info", "commandstats"))
	r.stop()

	var got commandTotals
	r.analyze(&got, "commands")
	stats["info"] = stat{calls: 1} // which had not ended when it told
	seen := map[string]bool{}
	for _, c := range got.Commands {
		seen[c.Command] = true
		want := stats[c.Command]
		if c.Calls != want.calls {
			t.Errorf("%s: %d calls, INFO commandstats has %d", c.Command, c.Calls, want.calls)
		}
		if want.calls >= 20 && want.time/time.Duration(want.calls) >= 500*time.Microsecond &&
			!within(time.Duration(c.TotalNs), want.time, 0.05, 0) {
			t.Errorf("%s: %v in all, redis says %v", c.Command, time.Duration(c.TotalNs), want.time)
		}
	}
	for name := range stats {
		if !seen[name] {
			t.Errorf("%s was not recorded", name)
		}
	}
	if got.Nested != 41+3 {
		t.Errorf("%d commands in scripts and transactions, want 44", got.Nested)
	}
	var by struct{ Commands []struct{ Group string } }
	r.analyze(&by, "commands", "--by", "client")
	for _, g := range by.Commands {
		if !strings.HasPrefix(g.Group, "127.0.0.1:") && g.Group != "(script or transaction)" {
			t.Errorf("client %q", g.Group)
		}
	}
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

// TestRedisWrongVersion: with the layout of another version nothing is recorded
// rather than rubbish, and that is said.
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
	port := freePort(t)
	s := start(t, port, "redis-server", "--port", fmt.Sprint(port), "--save", "", "--dir", t.TempDir(), "--bind", "127.0.0.1")
	r := recordNow(t, "-e", file, "-p", fmt.Sprint(s.pid()))
	runClient(t, "", "redis-benchmark", "-p", fmt.Sprint(port), "-n", "200", "-q", "-t", "set,get")
	r.stop()
	var got commandTotals
	r.analyze(&got, "commands")
	if len(got.Commands) != 0 || !strings.Contains(r.log.String(), "reads what cannot be") {
		t.Errorf("%d commands of a layout that is wrong; %s", len(got.Commands), r.log.String())
	}
}
