package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// TestRedisNames: a command has the name that INFO commandstats has for it, whatever a
// client calls it: renamed in the configuration, inline instead of in the protocol, a
// module's, or one that a module or script has executed.
func TestRedisNames(t *testing.T) {
	kerneltest.Require(t)
	module := kerneltest.Build(t, apps+"redismodule.c", "-shared", "-fPIC")
	dir, port := t.TempDir(), freePort(t)
	conf := filepath.Join(dir, "redis.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `
port %d
bind 127.0.0.1
save ""
dir %s
rename-command GET fetch
rename-command CONFIG s3cret
rename-command FLUSHALL ""
loadmodule %s
`, port, dir, module), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, port, "redis-server", conf)
	cli := func(input string, args ...string) string {
		t.Helper()
		return runClient(t, input, "redis-cli", append([]string{"-p", fmt.Sprint(s.port)}, args...)...)
	}
	r := recordNow(t, "-e", "redis", "-p", fmt.Sprint(s.pid()))
	cli("", "s3cret", "resetstat")
	cli(strings.Repeat("fetch k\n", 7) + "get k\nflushall\n") // the last two are no commands any more
	cli("", "s3cret", "set", "maxmemory-policy", "noeviction")
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	inline := "SET k v\r\nFETCH k\r\necho 'of one line'\r\nECHO 2\r\nDEMO.twice n\r\n"
	if _, err := c.Write([]byte(inline)); err != nil {
		t.Fatal(err)
	}
	want := "+OK\r\n$1\r\nv\r\n$11\r\nof one line\r\n$1\r\n2\r\n:2\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v\n%s", got, err, s.log.String())
	}
	for range 5 {
		cli("", "demo.twice", "n")
	}
	stats := map[string]stat{}
	for _, m := range statLine.FindAllStringSubmatch(cli("", "info", "commandstats"), -1) {
		var n uint64
		fmt.Sscan(m[2], &n)
		stats[m[1]] = stat{calls: n}
	}
	r.stop()

	var doc commandTotals
	r.analyze(&doc, "commands")
	told := map[string]uint64{}
	for _, c := range doc.Commands {
		told[c.Command] = c.Calls
		if c.Command != "info" && c.Calls != stats[c.Command].calls {
			t.Errorf("%s: %d calls, INFO commandstats has %d", c.Command, c.Calls, stats[c.Command].calls)
		}
	}
	for name, n := range map[string]uint64{"get": 8, "config|set": 1, "config|resetstat": 1, "set": 1, "echo": 2, "demo.twice": 6, "incr": 12, "exists": 12, "eval": 6} {
		if told[name] != n {
			t.Errorf("%s: %d calls, want %d", name, told[name], n)
		}
	}
	for name := range stats {
		if told[name] == 0 {
			t.Errorf("%s was not recorded", name)
		}
	}
	if told["fetch"]+told["s3cret"]+told["flushall"] != 0 || doc.Nested != 6*5 {
		t.Errorf("%v, %d of them in scripts and by the module, want 30", told, doc.Nested)
	}
}
