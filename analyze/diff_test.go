package analyze

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/tcap-dev/tcap/format/tracetest"
)

// TestDiffPProf checks that go tool pprof makes of both captures' profiles, by
// -diff_base, what it shows of the difference's own.
func TestDiffPProf(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/heap-diff.txtar")
	dir := t.TempDir()
	save := func(name string, res Result) string {
		var buf bytes.Buffer
		if err := Render(&buf, res, "pprof", 80); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	before, _ := runLine(t, s.Reader, "leaks", nil, nil)
	after, _ := runLine(t, s.Capture(t, "after"), "leaks", nil, nil)
	a, b := save("before.pb.gz", before), save("after.pb.gz", after)
	d := save("diff.pb.gz", runDiff(t, s, nil))
	top := func(args ...string) string {
		cmd := exec.Command("go", append([]string{"tool", "pprof", "-top", "-unit=b", "-nodefraction=0"}, args...)...)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go tool pprof: %v\n%s", err, out)
		}
		_, table, ok := bytes.Cut(out, []byte("Showing nodes"))
		if !ok {
			t.Fatalf("no table in\n%s", out)
		}
		return string(table)
	}
	got, want := top(d), top("-diff_base", a, b)
	if got != want {
		t.Errorf("the difference's own profile shows\n%s\n-diff_base shows\n%s", got, want)
	}
	for _, line := range []string{`300B .* node_new\n`, `-36B .* cache_put\n`, `\n +323B.* of 280B total|323B, .* of 280B total`} {
		if !regexp.MustCompile(line).MatchString(want) {
			t.Errorf("no %s in\n%s", line, want)
		}
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct {
		a, b uint64
		want int64
	}{{1, 3, 2}, {3, 1, -2}, {0, math.MaxUint64, math.MaxInt64}, {math.MaxUint64, 0, -math.MaxInt64}, {math.MaxUint64, math.MaxUint64, 0}} {
		if got := difference(c.a, c.b); got != c.want {
			t.Errorf("difference(%d, %d) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// TestDiffSelf compares every scenario with itself.
func TestDiffSelf(t *testing.T) {
	for _, s := range tracetest.Glob(t, "../testdata/scenarios/heap-*.txtar") {
		for _, args := range [][]string{nil, {"--cost", "peak"}, {"--group-by", "function", "--cost", "allocs"}} {
			d := compare(t, s.Reader, s.Reader, args)
			if len(d.Rows) != 0 || d.Grown+d.Shrunk != 0 || d.Total.GrowthBytes != 0 || d.Total.Before != d.Total.After {
				t.Errorf("%s %v: differs from itself: %+v", s.Path, args, d)
			}
		}
	}
}
