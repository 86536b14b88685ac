package capture_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// strip runs a tool of binutils on a copy of a program.
func strip(t *testing.T, program, name string, commands ...[]string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, argv := range commands {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = filepath.Dir(out)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("%q: %v\n%s", argv, err, text)
		}
	}
	return out
}

// Functions are found wherever their names may be: exported by a stripped program,
// in a static one, in a debug file next to it, in .gnu_debugdata.
func TestCallsOfPrograms(t *testing.T) {
	plain := callsProgram(t)
	programs := map[string]string{}
	for _, c := range some([]struct {
		name  string
		flags []string
	}{
		{"static", []string{"-static"}}, {"PIE", []string{"-fPIE", "-pie"}}, {"no PIE", []string{"-fno-pie", "-no-pie"}},
		{"exported", []string{"-rdynamic", "-s"}},
	}) {
		programs[c.name] = callsProgram(t, c.flags...)
	}
	if kerneltest.Repeat(10) > 1 { // else the machine is emulated and has no objcopy
		programs["debug file"] = strip(t, plain, "x",
			[]string{"objcopy", "--only-keep-debug", "x", "x.debug"}, []string{"objcopy", "--strip-all", "--add-gnu-debuglink=x.debug", "x"})
		programs["debugdata"] = strip(t, plain, "y",
			[]string{"objcopy", "-S", "--remove-section=.comment", "--keep-symbol=many", "--keep-symbol=handle", "y", "mini"},
			[]string{"objcopy", "--strip-all", "y"}, []string{"xz", "-k", "mini"}, []string{"objcopy", "--add-section", ".gnu_debugdata=mini.xz", "y"})
	}
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			list, _ := recordCalls(t, []string{program, "args", "1"}, "uretprobe:@:many(g=i64(arg6), r=i64(retval))", "uprobe:@:hand*(fd=u32(arg0->24))")
			sameLines(t, "many", only(list, "many"), []string{"returned depth=1 g=7 r=-1"})
			sameLines(t, "handle", only(list, "handle"), []string{"entered depth=1 fd=0"})
		})
	}
}

// A link to the program, a copy of it that was deleted meanwhile.
func TestCallsOfLinksAndDeleted(t *testing.T) {
	program := callsProgram(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	list, _ := recordCalls(t, []string{link, "args", "1"}, "uprobe:@:many")
	if len(list) != 1 {
		t.Errorf("by a link: %d calls", len(list))
	}
}

// Marks: arguments are where the compiler had them, and the program knows that it
// is watched.
func TestCallsOfMarks(t *testing.T) {
	kerneltest.Require(t)
	program := kerneltest.Build(t, "../testdata/programs/calls/marks.c", "-O2")
	list, _ := recordCalls(t, []string{program, "3"},
		"usdt:@:demo:work(small=i8(arg0), mid=u16(arg1), big=i64(arg2), el=i8(arg3), local=i32(arg4))",
		"usdt:@:demo:t*(u=u32(arg0), s=str(arg1))", "usdt:@:demo:constant(c=i32(arg0)) /c == 42/")
	var work, texts []string
	for i := range 3 {
		work = append(work, fmt.Sprintf("entered depth=1 small=%d mid=%d big=%d el=%d local=-5", -i, 60000+i, 1<<40, []int{1, -2, 3}[i]))
		texts = append(texts, fmt.Sprintf("entered depth=1 u=%d s=text", 4000000000+i))
	}
	sameLines(t, "work", only(list, "demo:work"), work)
	sameLines(t, "texts", only(list, "demo:texts"), texts) // in a page that the program never touched
	if n := len(only(list, "demo:constant")); n != 3 {
		t.Errorf("%d hits of constant", n)
	}
}

// The return of a Go function, whose stack moves, is not probed; it has its
// arguments in registers of its own.
func TestCallsOfGo(t *testing.T) {
	kerneltest.Require(t)
	goTool, err := exec.LookPath("go")
	switch {
	case err != nil && kerneltest.Repeat(10) == 1:
		t.Skip("the emulated machine has no Go; what Go makes is the same on every kernel")
	case err != nil:
		kerneltest.Skip(t, "go is not in the path")
	}
	build := func(name, flags string) string {
		program := filepath.Join(t.TempDir(), name)
		cmd := exec.Command(goTool, "build", "-ldflags="+flags, "-o", program, "../testdata/programs/calls/gocalls.go")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return program
	}
	program := build("gocalls", "-s -w")
	list, notes := recordCalls(t, []string{program}, "uretprobe:@:main.add(a=i64(arg0), b=i64(arg1), s=buf(arg2, arg3))")
	sameLines(t, "main.add", only(list, "main.add"), []string{"entered depth=1 a=1 b=2 s=three", "entered depth=1 a=4 b=-5 s=six"})
	if !strings.Contains(notes, "only entries are recorded: it is a Go program") {
		t.Errorf("notes: %s", notes)
	}
	methodsOfGo(t, program)
	methodsOfGo(t, build("symbols", ""))
}

// Methods and generic functions of Go are named in quotes, as Go names them; of a generic one
// the common name means all. It has a dictionary before its other arguments, or behind the
// receiver.
func methodsOfGo(t *testing.T, program string) {
	list, notes := recordCalls(t, []string{program},
		`uprobe:@:"main.(*worker).Work"(n=i64(arg1), sum=i64(arg0->0))`, `uprobe:@:"main.worker.Look"(sum=i64(arg0), n=i64(arg1))`,
		`uprobe:@:"main.(*box[...]).Put"(n=i64(arg3)) /n == 10/`, `uprobe:@:"main.last[...]"(dictionary=ptr(arg0), n=i64(arg4))`)
	by := map[string]int{}
	for _, c := range list {
		name := c.probe[strings.Index(c.probe, "main."):]
		if at := strings.IndexByte(name, '['); at >= 0 {
			name = name[:at]
		}
		_, args, found := strings.Cut(c.args, " n=")
		if !found {
			args = c.args
		}
		by[name+" "+args]++
	}
	for _, want := range []string{"main.(*worker).Work n=7 sum=0", "main.(*worker).Work n=8 sum=7", "main.worker.Look 9", "main.last 12", "main.last 13"} {
		if by[want] != 1 {
			t.Errorf("%s: %d calls", want, by[want])
		}
	}
	if n := by["main.(*box n=10"]; n != 1 || len(list) != 6 {
		t.Errorf("%d calls of Put with 10, %d in all: %v", n, len(list), by)
	}
	if strings.Contains(notes, "never hit") {
		t.Errorf("notes: %s", notes)
	}
}

// Returns of the C library are seen, which has makecontext for others to use.
func TestCallsOfLibc(t *testing.T) {
	kerneltest.Require(t)
	list, _ := recordCalls(t, []string{"/bin/ls", "/proc/self/task"}, "uretprobe:/usr/lib/*/libc.so.6:opendir(name=str(arg0)) /retval != 0/")
	sameLines(t, "opendir", only(list, "opendir"), []string{"returned depth=1 name=/proc/self/task"})
}

// Where a program switches stacks, only entries are probed unless that is wanted.
func TestCallsOfCoroutines(t *testing.T) {
	kerneltest.Require(t)
	program := kerneltest.Build(t, "../testdata/programs/calls/coroutine.c", "-O2")
	list, notes := recordCalls(t, []string{program}, "uretprobe:@:step(who=i32(arg0), n=i32(arg1))")
	var want []string
	for n := range 3 {
		for who := range 2 {
			want = append(want, fmt.Sprintf("entered depth=1 who=%d n=%d", who, n))
		}
	}
	sameLines(t, "step", only(list, "step"), want)
	if !strings.Contains(notes, "it switches stacks (it has ") {
		t.Errorf("notes: %s", notes)
	}
}

// A function whose calls were inlined is warned about.
func TestCallsOfInlined(t *testing.T) {
	kerneltest.Require(t)
	program := kerneltest.Build(t, "../testdata/programs/calls/coroutine.c", "-O2")
	_, notes := recordCalls(t, []string{program}, "uprobe:@:inlined")
	if !strings.Contains(notes, "nothing in the file calls it or names it") || !strings.Contains(notes, "was never hit") {
		t.Errorf("notes: %s", notes)
	}
}

// Where an exception would end the program, as it leaves a function whose return is probed,
// a warning says so; entries are recorded while they are thrown.
func TestCallsThatThrow(t *testing.T) {
	program := kerneltest.Build(t, "../testdata/programs/calls/throws.cpp", "-O1", "-lstdc++")
	for _, c := range []struct {
		probe, times string
		warned       bool
		want         []string
	}{
		{"uprobe:@:app::Db::fail(n=i64(arg1))", "3", false, []string{"entered depth=1 n=0", "entered depth=1 n=1", "entered depth=1 n=2"}},
		{"uretprobe:@:app::Db::fail(n=i64(arg1))", "1", true, []string{"returned depth=1 n=0"}},
		{"uretprobe:@:app::Db::fail(n=i64(arg1)){returns}", "1", false, []string{"returned depth=1 n=0"}},
	} {
		list, notes := recordCalls(t, []string{program, c.times}, c.probe)
		sameLines(t, c.probe, only(list, "_ZN3app2Db4failEl"), c.want)
		if strings.Contains(notes, "ends the program") != c.warned {
			t.Errorf("%s: notes %q", c.probe, notes)
		}
	}
}
