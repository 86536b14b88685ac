package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// TestReportsOfRecording records a program whose leaks are known, twice, and holds
// every form of the report against that: trees, tables, folded stacks, what go tool
// pprof says, and the difference of the two. A narrow terminal is kept to.
func TestReportsOfRecording(t *testing.T) {
	kerneltest.Require(t)
	dir := t.TempDir()
	prog := kerneltest.Build(t, "testdata/grows.c", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls")
	in := func(name string) string { return filepath.Join(dir, name) }
	mustTcap(t, "record", "-q", "-e", "heap", "-o", in("a"), "--", prog, "3")
	mustTcap(t, "record", "-q", "-e", "heap", "-o", in("b"), "--", prog, "10")
	for _, c := range []struct{ args, says string }{
		{"leaks b --tree", "1000 B        10"},
		{"leaks b --caller", "main  grows.c:27"},
		{"leaks b --group-by function", "1000 B  90.91      10   1000 B   90.91  leaf "},
		{"leaks b --group-by line", "leaf grows.c:12"},
		{"leaks b --group-by module", filepath.Base(prog)},
		{"leaks b --group-by file", "grows.c"},
		{"leaks b --format folded", ";main;grow;leaf 1000\n"},
		{"leaks b --format folded --cost allocs", ";main;grow;leaf 10\n"},
		{"heap b --format folded --cost temporary", ";main;scratch 5\n"},
		{"heap b --format folded --cost peak", ";main;grow;leaf 1000\n"},
	} {
		f := strings.Fields(c.args)
		f[1] = in(f[1])
		if out := mustTcap(t, append([]string{"analyze"}, f...)...).stdout; !strings.Contains(out, c.says) {
			t.Errorf("analyze %s: no %q in\n%s", c.args, c.says, out)
		}
		if out := onTerminal(t, 60, append([]string{"analyze"}, f...)...); !strings.Contains(c.args, "folded") {
			for line := range strings.Lines(out) {
				if n := len([]rune(strings.TrimRight(line, "\r\n"))); n > 60 {
					t.Errorf("analyze %s: %d columns: %q", c.args, n, line)
				}
			}
		}
	}
	diff := mustTcap(t, "diff", in("a"), in("b")).stdout
	if !strings.HasPrefix(diff, "+700 bytes, +7 blocks\n") || !strings.Contains(diff, "leaked +700 bytes, +7 blocks") {
		t.Errorf("diff says\n%s", diff)
	}
	for _, name := range []string{"a", "b"} {
		mustTcap(t, "analyze", "leaks", in(name), "--format", "pprof", "-o", in(name+".pb.gz"))
	}
	mustTcap(t, "diff", in("a"), in("b"), "--format", "pprof", "-o", in("diff.pb.gz"))
	for _, args := range [][]string{{"-diff_base", in("a.pb.gz"), in("b.pb.gz")}, {in("diff.pb.gz")}} {
		if out := pprofTop(t, args...); !strings.Contains(out, "700B") || !strings.Contains(out, "leaf") {
			t.Errorf("pprof %q says\n%s", args, out)
		}
	}
	var s summary
	if err := json.Unmarshal([]byte(mustTcap(t, "info", "--format", "json", in("b")).stdout), &s); err != nil {
		t.Fatal(err)
	}
	if s.Tables.SymbolBytes == 0 || !strings.Contains(mustTcap(t, "info", in("b")).stdout, " of the file, about; of ") {
		t.Errorf("what symbols cost is not told: %+v", s.Tables)
	}
}

func pprofTop(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"tool", "pprof", "-top", "-symbolize=none"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("go tool pprof %q: %v\n%s", args, err, out)
	}
	return string(out)
}
