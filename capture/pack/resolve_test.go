package pack

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

const layoutSource = `
struct command { const char *name; long calls; };
struct client { int argc; char pad[60]; struct command *cmd; };
const char *version = "3.1.4";
const char *old = "1.0.0", *compiler = "12.2.0";
int handle(struct client *c) { return c->argc + (int)c->cmd->calls; }
long calls_of(struct client *c) { return c->cmd ? c->cmd->calls : 0; }
int main(int argc, char **argv) { struct command cmd = {version, 1}; struct client c = {argc, {0}, &cmd}; return handle(&c) + old[0] + compiler[0] == 0; }
`

const layoutPack = `pack: lay
find: {names: [lay]}
version: {strings: '^([0-9]+[.][0-9]+[.][0-9]+)$', pick: highest}
layout:
  - {version: '>=3.0 <4.0', function: no_such_*, offsets: {cmd: 100}}
  - {version: '>=3.0 <4.0', function: hand*, offsets: {cmd: 200}}
dwarf: {cmd: client.nothing client.cmd, calls: command.calls}
accessors: {calls_of: [cmd2, calls2], no_such_accessor: [calls3]}
probes:
  - name: handle
    role: request
    variants:
      - version: '<3.0'
        probe: handle(argc=i32(arg0->0))
      - version: '>=3.0'
        probe: handle(argc=i32(arg0->0), cmd=ptr(arg0->{cmd}))
        extra: ['calls=u64(arg0->{cmd}->{calls})', 'again=u64(arg0->{cmd2}->{calls2})', 'never=u64(arg0->{calls3})']
  - name: missing
    optional: true
    probe: no_such_function(a=u32(arg0))
`

// TestResolve: the variant of the version that the program has in its text; the
// offsets of its debugging information or, stripped of that, of the version;
// arguments that nobody knows the place of are left out.
func TestResolve(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("makes an ELF program")
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		kerneltest.Skip(t, "gcc is not installed")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "lay.c")
	if err := os.WriteFile(source, []byte(layoutSource), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := Parse("lay.yaml", []byte(layoutPack))
	if err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[string]string{
		"-g -O1 -fno-inline":           "handle(argc=i32(arg0->0), cmd=ptr(arg0->64), calls=u64(arg0->64->8), again=u64(arg0->64->8))",
		"-O1 -fno-inline -rdynamic -s": "handle(argc=i32(arg0->0), cmd=ptr(arg0->200), again=u64(arg0->64->8))",
	} {
		exe := filepath.Join(dir, "lay")
		if out, err := exec.Command(gcc, append(strings.Fields(flags), "-o", exe, source)...).CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
		found, err := p.Resolve(Program{Open: exe, Path: exe})
		if err != nil {
			t.Fatal(err)
		}
		if found.Version != "3.1.4" || len(found.Probes) != 1 || !strings.Contains(strings.Join(found.Skipped, "\n"), "no_such_function") {
			t.Fatalf("%+v", found)
		}
		q := found.Probes[0]
		if told := strings.Contains(found.Skipped[0], "calls (calls)"); told == strings.Contains(want, "calls=") {
			t.Errorf("gcc %s: %q", flags, found.Skipped)
		}
		if got := strings.TrimPrefix(q.Decl.Source, "uprobe:"+exe+":"); got != want || q.Name != "lay.handle" || q.Role != "request" {
			t.Errorf("gcc %s: %s, want %s", flags, got, want)
		}
	}
}

// TestResolveOther: of a version that the pack has no layout for, or of none, it is said
// what is missing and what to do; with debugging information any version will do.
func TestResolveOther(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("makes an ELF program")
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		kerneltest.Skip(t, "gcc is not installed")
	}
	pack := strings.Replace(layoutPack, "version: '>=3.0'", "version: '>=3.0 <9'", 1)
	needs, _, _ := strings.Cut(pack, "accessors:")
	needs += "probes:\n  - name: handle\n    probe: handle(cmd=ptr(arg0->{cmd}))\n"
	dir := t.TempDir()
	for _, tt := range []struct{ version, pack, flags, want string }{
		{"3.1.4", needs, "-s", ""},
		{"4.0.0", needs, "-s", "the pack has a layout for none of what may be its version (12.2.0, 4.0.0, 1.0.0): add it, or install debug symbols"},
		{"4.0.0", needs, "-g", ""},
		{"four", strings.Replace(needs, "[0-9]+[.]", "[0-9]+x[.]", 1), "-s", "its version is not known, nor thereby its layout: install debug symbols"},
		{"9.0.0", pack, "-s", "it is version 12.2.0"},
	} {
		source, exe := filepath.Join(dir, "lay.c"), filepath.Join(dir, "lay")
		if err := os.WriteFile(source, []byte(strings.Replace(layoutSource, "3.1.4", tt.version, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(gcc, "-O1", "-fno-inline", "-rdynamic", tt.flags, "-o", exe, source).CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
		p, err := Parse("lay.yaml", []byte(tt.pack))
		if err != nil {
			t.Fatal(err)
		}
		found, err := p.Resolve(Program{Open: exe, Path: exe})
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), "probe handle: ") || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("version %s, gcc %s: %v, want %q", tt.version, tt.flags, err, tt.want)
		case tt.want == "" && len(found.Probes) != 1:
			t.Errorf("version %s, gcc %s: %+v", tt.version, tt.flags, found)
		}
	}
}

func TestVersionsIn(t *testing.T) {
	re := regexp.MustCompile(`^([0-9]+\.[0-9]+\.[0-9]+)$`)
	data := []byte("x\x007.0.0\x002.6.0\x007.0.15\x007.0.0\x00127.0.0.1\x00v7.0.99\x0012.2.0\x00")
	if got := versionsIn(data, re, true); !slices.Equal(got, []string{"12.2.0", "7.0.15", "7.0.0", "2.6.0"}) {
		t.Errorf("highest: %q", got)
	}
	if got := versionsIn(data, re, false); !slices.Equal(got, []string{"7.0.0", "2.6.0", "7.0.15", "12.2.0"}) {
		t.Errorf("first: %q", got)
	}
	if got := versionsIn(nil, re, true); got != nil {
		t.Errorf("none: %q", got)
	}
}

// A pack says a function as -e does: as people write a name of C++, too. One that is not there
// is told with what is named alike.
func TestResolveWritten(t *testing.T) {
	exe := kerneltest.Build(t, "../../testdata/programs/calls/throws.cpp", "-O1", "-lstdc++")
	for probe, want := range map[string]string{
		"app::Db::execute(n=i64(arg1))": "", `"app::Db::execute(char const*, long)"(n=i64(arg2))`: "", "_ZN3app2Db7executeEl(n=i64(arg1))": "",
		"app::Db::exectue(n=i64(arg1))": "it has no function app::Db::exectue (it has app::Db::execute)",
	} {
		p, err := Parse("x.yaml", []byte("pack: x\nfind: {names: [throws]}\nprobes:\n  - name: a\n    probe: '"+probe+"'\n"))
		if err != nil {
			t.Fatal(err)
		}
		found, err := p.Resolve(Program{Open: exe, Path: exe})
		switch {
		case want == "" && (err != nil || len(found.Probes) != 1):
			t.Errorf("%s: %v, %v", probe, found, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", probe, err, want)
		}
	}
}
