package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

type commandTotals struct {
	Commands []commandRow
	Nested   uint64
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

// TestRedis: counts per command are those of INFO commandstats, exactly, with
// scripts and transactions. Times are redis's own, the cost of the probes taken off:
// of every command that is frequent the median, of what takes long the total, within
// 5 %.
//
// Redis reads its clock inside of call(), whose entry and return trap: the rest of the
// first trap, and the way into the second, are in tcap's interval and not in redis's.
// PING does nothing, so what it takes longer than redis says is what any call does.
// Redis counts whole microseconds, of which most commands take less than one, so its
// medians, that of PING and the command's, are off by up to one each; and where a call takes as little as a trap, a sum
// is one of traps, with all that can happen in one. Of those it says nothing. Of the
// others redis may have lost its CPU in a trap, which is recorded, too.
func TestRedis(t *testing.T) {
	kerneltest.Require(t)
	s := startRedis(t, "redis-server")
	cli := func(input string, args ...string) string {
		t.Helper()
		return runClient(t, input, "redis-cli", append([]string{"-p", fmt.Sprint(s.port)}, args...)...)
	}
	r := recordNow(t, "-e", "redis,tcp", "-e", switchesOf("redis-server"))
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
	stats["info"] = stat{calls: 2} // of which the first had not ended when it told
	seen := map[string]bool{}
	for _, c := range got.Commands {
		seen[c.Command] = true
		want := stats[c.Command]
		if c.Calls != want.calls {
			t.Errorf("%s: %d calls, INFO commandstats has %d", c.Command, c.Calls, want.calls)
		}
	}
	delete(stats, "info")
	checkTimes(t, &got, stats, medians, r.keptAtEnds(uint32(s.pid())))
	for name := range stats {
		if !seen[name] {
			t.Errorf("%s was not recorded", name)
		}
	}
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

// checkTimes holds the times of each command against redis's.
func checkTimes(t *testing.T, got *commandTotals, stats map[string]stat, medians, kept map[string]time.Duration) {
	t.Helper()
	i := slices.IndexFunc(got.Commands, func(c commandRow) bool { return c.Command == "ping" })
	if i < 0 {
		t.Fatal("no PING was recorded")
	}
	cost := time.Duration(got.Commands[i].P50Ns) - medians["ping"]
	for _, c := range got.Commands {
		want, ok := stats[c.Command]
		if !ok || want.calls < 20 {
			continue
		}
		median, total := time.Duration(c.P50Ns)-cost, time.Duration(c.TotalNs)-cost*time.Duration(want.calls)
		// Of few calls, the one in the middle is another one by another way to count.
		if want.calls >= 200 && !within(median, medians[c.Command], 0.05, 2*time.Microsecond+time.Duration(0.05*float64(medians[c.Command]))) {
			t.Errorf("%s: median %v, redis says %v", c.Command, median, medians[c.Command])
		}
		each := want.time / time.Duration(want.calls)
		more := total - want.time
		if each >= 200*time.Microsecond && !within(total-min(max(more, 0), kept[c.Command]), want.time, 0.05, 0) {
			t.Errorf("%s: %v in all, redis says %v; it was kept from running for %v at their ends", c.Command, total, want.time, kept[c.Command])
		}
		t.Logf("%-8s %5d calls: median %8v, redis %8v; mean %10v, redis %10v (less %v a call)", c.Command, want.calls, median, medians[c.Command],
			total/time.Duration(want.calls), each, cost)
	}
}

// keptAtEnds is, by command, how long redis was kept from running where a command
// began or ended: a trap's return is where the scheduler takes its turn, and redis's
// clock is read behind the first and in front of the second.
func (r *recorder) keptAtEnds(pid uint32) map[string]time.Duration {
	r.t.Helper()
	const end = int64(20 * time.Microsecond)
	file, err := format.Open(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	defer file.Close()
	off, start := r.preempted()[pid], file.Header().Start.Mono
	kept := map[string]time.Duration{}
	for c, err := range file.Calls(format.Filter{Pids: []uint32{pid}}) {
		if err != nil {
			r.t.Fatal(err)
		}
		name, _, ok := c.Text("command")
		if !ok {
			continue // a switch
		}
		from, to := c.Entry-start, c.Return-start
		first, _ := slices.BinarySearchFunc(off, from, func(o outage, at int64) int { return cmp.Compare(o.from, at) })
		for _, o := range off[first:] {
			if o.from > to {
				break
			}
			if o.from < from+end || o.to > to-end {
				kept[string(name)] += time.Duration(min(o.to, to) - o.from)
			}
		}
	}
	return kept
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
	s := startRedis(t, "redis-server")
	r := recordNow(t, "-e", file, "-p", fmt.Sprint(s.pid()))
	runClient(t, "", "redis-benchmark", "-p", fmt.Sprint(s.port), "-n", "200", "-q", "-t", "set,get")
	r.stop()
	var got commandTotals
	r.analyze(&got, "commands")
	if len(got.Commands) != 0 || !strings.Contains(r.log.String(), "reads what cannot be") {
		t.Errorf("%d commands of a layout that is wrong; %s", len(got.Commands), r.log.String())
	}
}
