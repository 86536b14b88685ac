package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
// its names and its COM_DATA; statements of four sessions at once, with the number of
// the connection, the user and the time until the answer, and of a program with
// debugging information the database.
func TestMySQLLayout(t *testing.T) {
	kerneltest.Require(t)
	for name, flags := range map[string][]string{
		"exported":     {"-O2", "-rdynamic", "-s"},
		"static":       {"-O2", "-static"},
		"no optimizer": {"-O0", "-g", "-fcf-protection", "-DMANGLED"},
	} {
		t.Run(name, func(t *testing.T) {
			exe := named(t, kerneltest.Build(t, apps+"mysqld.cpp", append([]string{"-x", "c++"}, flags...)...), "mysqld")
			r, out := recordRun(t, "-e", "mysql", "--", exe)
			said := map[string][]query{}
			for line := range strings.Lines(out) {
				f := strings.Split(strings.TrimSpace(line), "\t")
				if len(f) != 6 {
					t.Fatalf("%q", line)
				}
				us, err := strconv.ParseInt(f[5], 10, 64)
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				if slices.Contains(flags, "-s") {
					f[4] = ""
				}
				if f[0] == "3" || f[0] == "23" {
					said[f[2]] = append(said[f[2]], query{text: f[1], connection: f[2], user: f[3], database: f[4], time: time.Duration(us) * time.Microsecond})
				}
			}
			executed, prepared := r.queries()
			if len(executed) != 4*13 || len(prepared) != 4 || len(said) != 4 {
				t.Errorf("%d queries, %d prepared, %d connections, want 52, 4 and 4", len(executed), len(prepared), len(said))
			}
			off := 0
			for _, q := range executed {
				if len(said[q.connection]) == 0 {
					t.Errorf("%+v is of no connection of the program, or too much", q)
					continue
				}
				want := said[q.connection][0]
				said[q.connection] = said[q.connection][1:]
				if want.text != q.text || want.user != q.user || want.database != q.database {
					t.Errorf("%+v; the program says %+v", q, want)
				}
				if !within(q.time, want.time, 0.2, 500*time.Microsecond) {
					off++
					t.Logf("%+v; the program says %+v", q, want)
				}
			}
			if off > 2 { // one of two clocks is read, the CPU is lost, the other is read
				t.Errorf("%d of %d times are not the program's", off, len(executed))
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
	if strings.Contains(out, "stack=") {
		t.Errorf("stacks that nobody asked for:\n%s", out)
	}
	r, _ = recordRun(t, "--stacks", "dwarf", "-e", write(text), "--", exe)
	out = tcap(t, "print", r.file, "--kind", "call").stdout
	if n := strings.Count(out, "probe=mine.spawn"); n != 11 || strings.Count(out, "main;") < 1 {
		t.Errorf("%d calls, want 11, with stacks:\n%s", n, out)
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

// TestRunningApps: without -e, a target that a pack knows is recorded as that, and is
// without targets, too; not with -e none, and never by a pack that is private. A pack of
// the user's that is wrong does no harm.
func TestRunningApps(t *testing.T) {
	kerneltest.Require(t)
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	if err := os.MkdirAll(filepath.Join(home, "tcap/packs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "tcap/packs/broken.yaml"), []byte("pack: broken\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := startRedis(t, "redis-server")
	target := []string{"-p", fmt.Sprint(s.pid())}
	for _, tt := range []struct {
		name  string
		args  []string
		packs string
	}{
		{"target", target, "heap, tcp, calls, redis"},
		{"target, none", append([]string{"-e", "none"}, target...), "heap, tcp"},
		{"target, others", append([]string{"-e", "tcp"}, target...), "tcp"},
		{"machine", nil, "tcp, calls"},
		{"machine, none", []string{"-e", "none"}, "tcp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := recordNow(t, tt.args...)
			for range 5 {
				runClient(t, "", "redis-cli", "-p", fmt.Sprint(s.port), "ping")
			}
			r.stop()
			apps := strings.Contains(tt.packs, "calls")
			if said := strings.Contains(r.log.String(), "recording redis-"); said != apps || strings.Contains(r.log.String(), "broken.yaml:") != apps {
				t.Errorf("%s", r.log.String())
			}
			info := tcap(t, "info", r.file).stdout
			if !strings.Contains(info, " "+tt.packs) || strings.Contains(info, "redis-keys") {
				t.Errorf("want packs %s:\n%s", tt.packs, info)
			}
			var got commandTotals
			r.analyze(&got, "commands", "--pid", fmt.Sprint(s.pid()))
			if apps != (len(got.Commands) == 1 && got.Commands[0].Command == "ping" && got.Commands[0].Calls == 5) {
				t.Errorf("commands %+v", got.Commands)
			}
		})
	}
}

// TestPackOfOthers: that no target runs the pack's program is said at the start, in the
// file and at once; and that such a target may start the program all the same.
func TestPackOfOthers(t *testing.T) {
	kerneltest.Require(t)
	if _, err := exec.LookPath("redis-server"); err != nil {
		kerneltest.Skip(t, "redis-server is not installed: scripts/deps.sh test")
	}
	port := freePort(t)
	shell := exec.Command("sh", "-c", `read go; exec redis-server --save "" --bind 127.0.0.1 --dir "$1" --port "$2"`, "sh", t.TempDir(), fmt.Sprint(port))
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shell.Process.Kill(); shell.Wait() })
	target := []string{"-e", "redis", "-p", fmt.Sprint(shell.Process.Pid)}
	const said = "pack redis is of redis-server, "
	early := recordNow(t, target...)
	fmt.Fprintln(in, "go")
	if !eventually(func() bool {
		return exec.Command("redis-cli", "-p", fmt.Sprint(port), "ping").Run() == nil
	}) {
		t.Fatal("redis-server does not answer")
	}
	late := recordNow(t, target...)
	runClient(t, "", "redis-cli", "-p", fmt.Sprint(port), "ping")
	late.stop()
	early.stop()
	for _, tt := range []struct {
		name  string
		r     *recorder
		said  bool
		calls uint64
	}{{"a shell that becomes redis-server", early, true, 2}, {"redis-server", late, false, 1}} {
		log := tt.r.log.String()
		if strings.Contains(log, said) != tt.said || tt.said && !(strings.Contains(log, "the targets run "+shellName(t)+":") && strings.Index(log, said) < strings.Index(log, "none lost")) {
			t.Errorf("%s: %s", tt.name, log)
		}
		first, _, _ := strings.Cut(tcap(t, "print", tt.r.file, "--kind", "meta.note,call").stdout, "\n")
		if strings.Contains(first, said) != tt.said {
			t.Errorf("%s: the file begins with %s", tt.name, first)
		}
		var got commandTotals
		tt.r.analyze(&got, "commands")
		if len(got.Commands) != 1 || got.Commands[0].Calls != tt.calls {
			t.Errorf("%s: commands %+v, want %d of ping", tt.name, got.Commands, tt.calls)
		}
	}
	// Of what runs nothing like it, all that is said is that.
	other := tcap(t, "record", "-o", filepath.Join(t.TempDir(), "x.tcap"), "-e", "redis", "--", "true")
	if other.code != 0 || !strings.Contains(other.stderr, "the targets run true: nothing is recorded of it unless a target starts /usr/bin/redis-") {
		t.Errorf("exit %d, %s", other.code, other.stderr)
	}
}

// shellName is the name of the shell's file.
func shellName(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path)
}
