package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

const apps = "../../testdata/programs/apps/"

// named copies a program to where it has the name that a pack looks for.
func named(t *testing.T, exe, name string) string {
	t.Helper()
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// recordRun records a program from its first instruction to its end, and returns
// the recording and what the program said.
func recordRun(t *testing.T, args ...string) (*recorder, string) {
	t.Helper()
	r := &recorder{t: t, file: filepath.Join(t.TempDir(), "app.tcap")}
	cmd := exec.Command(program, append([]string{"record", "-o", r.file}, args...)...)
	cmd.Stderr = &r.log
	out, err := cmd.Output()
	if err != nil || !strings.Contains(r.log.String(), "none lost") {
		t.Fatalf("record %q: %v\n%s", args, err, r.log.String())
	}
	return r, string(out)
}

// TestMySQLLayout: the arguments of MySQL 5.7 to 8.4, against a program that has
// its names and its COM_DATA; statements of four sessions at once.
func TestMySQLLayout(t *testing.T) {
	kerneltest.Require(t)
	for name, flags := range map[string][]string{"exported": {"-O2", "-rdynamic", "-s"}, "static": {"-O2", "-static"}} {
		t.Run(name, func(t *testing.T) {
			exe := named(t, kerneltest.Build(t, apps+"mysqld.cpp", append([]string{"-x", "c++"}, flags...)...), "mysqld")
			r, out := recordRun(t, "-e", "mysql", "--", exe)
			type told struct {
				text string
				us   int64
			}
			said := map[string][]told{}
			for line := range strings.Lines(out) {
				f := strings.Split(strings.TrimSpace(line), "\t")
				us, err := strconv.ParseInt(f[len(f)-1], 10, 64)
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				said[f[0]+" "+f[1]] = append(said[f[0]+" "+f[1]], told{f[1], us})
			}
			plain, prepared := r.queries()
			if len(plain) != 40 || len(prepared) != 4 {
				t.Errorf("%d queries, %d prepared, want 40 and 4", len(plain), len(prepared))
			}
			for _, q := range plain {
				want := said["3 "+q.text]
				if len(want) != 1 || !within(q.time, time.Duration(want[0].us)*time.Microsecond, 0.2, 500*time.Microsecond) {
					t.Errorf("%q took %v, the program says %v", q.text, q.time, want)
				}
			}
			var doc struct {
				UnknownText uint64 `json:"unknown_text"`
				Queries     []struct {
					Fingerprint string
					Count       uint64
				}
			}
			r.analyze(&doc, "queries")
			executed := 0
			for _, q := range doc.Queries {
				if strings.HasPrefix(q.Fingerprint, "update t") {
					executed += int(q.Count)
				}
			}
			if executed != 12 || doc.UnknownText != 0 {
				t.Errorf("%d executions with their text, want 12; %d without", executed, doc.UnknownText)
			}
		})
	}
}

// TestCoroutines: in a static executable, coroutines by the function that each
// begins with, those made on another's stack included.
func TestCoroutines(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, apps+"coroutines.c", "-O2", "-static")
	r, out := recordRun(t, "-e", "ntyco", "--", exe)
	if !strings.HasPrefix(out, "11 coroutines") {
		t.Fatalf("the program says %q", out)
	}
	file, err := format.Open(r.file)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got := map[string]int{}
	for c, err := range file.Calls(format.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		i := c.Probe.ArgIndex("function")
		got[string(file.AppendArg(nil, format.ArgSym, &c.Args[i]))]++
		if c.Probe.Role != "spawn" || c.Probe.Pack != "ntyco" {
			t.Errorf("probe %+v", c.Probe)
		}
	}
	if len(got) != 2 || got["reader"] != 8 || got["writer"] != 3 {
		t.Errorf("coroutines %v, want 8 of reader and 3 of writer", got)
	}
}

// TestOwnPack: a pack of ten lines, and what is said of wrong ones.
func TestOwnPack(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, apps+"coroutines.c", "-O2")
	dir := t.TempDir()
	write := func(text string) string {
		file := filepath.Join(dir, "mine.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	text := "pack: mine\nfind: {names: ['" + filepath.Base(exe) + "']}\nprobes:\n  - name: spawn\n    role: spawn\n    probe: nty_coroutine_create(arg=u64(arg2)) {returns}\n"
	r, _ := recordRun(t, "-e", write(text), "--", exe)
	out := tcap(t, "print", r.file, "--kind", "call").stdout
	if n := strings.Count(out, "probe=mine.spawn"); n != 11 {
		t.Errorf("%d calls, want 11:\n%s", n, out)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"a mistake", "u64(arg2)", "u63(arg2)", "mine.yaml:6:37: "},
		{"no such function", "nty_coroutine_create", "nty_coroutine_crate", "it has no function nty_coroutine_crate"},
		{"no such program", filepath.Base(exe), "nobody-has-this", "no program of it runs or is installed"},
	} {
		o := tcap(t, "record", "-o", filepath.Join(dir, "x.tcap"), "-e", write(strings.Replace(text, tt.old, tt.new, 1)), "--", exe)
		if o.code == 0 || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s: exit %d, %s; want %s", tt.name, o.code, o.stderr, tt.want)
		}
	}
	if o := tcap(t, "record", "-o", filepath.Join(dir, "x.tcap"), "-e", "nosuch", "--", exe); o.code != exitUsage || !strings.Contains(o.stderr, "no such pack; there are ") {
		t.Errorf("an unknown pack: exit %d, %s", o.code, o.stderr)
	}
}
