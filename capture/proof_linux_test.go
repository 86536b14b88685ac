package capture_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// wholeStacks fails the test unless at least 99 % of allocations, of which there are
// some, have a stack that is complete.
func wholeStacks(t *testing.T, path string) {
	t.Helper()
	ends := stackEnds(t, path)
	all := 0
	for _, n := range ends {
		all += n
	}
	if all == 0 || 100*ends[format.EndComplete] < 99*all {
		t.Errorf("%d of %d stacks are complete: %v", ends[format.EndComplete], all, ends)
	}
}

// stackEnds counts allocations by how their stacks end.
func stackEnds(t *testing.T, path string) map[format.StackEnd]int {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ends := map[format.StackEnd]int{}
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc, format.KindRealloc)}) {
		if err != nil {
			t.Fatal(err)
		}
		id := format.StackID(e.V[format.AllocStack])
		if e.Kind == format.KindRealloc {
			id = format.StackID(e.V[format.ReallocStack])
		}
		ends[r.StackEnd(id)]++
	}
	return ends
}

// inMain are the sites from the first that main is in to the last. A stack of which a
// tool has no more than so many frames is taken for one of main's, too.
func inMain(list []site, most int) []site {
	inside := func(s site) bool { return s.has("main") || len(s.calls) >= most }
	first := slices.IndexFunc(list, inside)
	if first < 0 {
		return nil
	}
	last := first
	for i := first; i < len(list); i++ {
		if inside(list[i]) {
			last = i
		}
	}
	return list[first : last+1]
}

const anyFrames = 1 << 20

// sameSites compares a capture with what another tool says, allocation by allocation.
func sameSites(t *testing.T, tool string, got, want []site) {
	t.Helper()
	if len(want) == 0 {
		t.Fatalf("%s has no allocation in main", tool)
	}
	wrong := 0
	for i := range max(len(got), len(want)) {
		var g, w site
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g.size == w.size && slices.Equal(g.calls, w.calls) {
			continue
		}
		if wrong++; wrong <= 3 {
			t.Errorf("allocation %d of %d:\n     tcap %s\n%9s %s", i+1, len(want), &g, tool, &w)
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d allocations differ", wrong, len(want))
	}
}

// physicals leaves the frames of the machine, and of those the innermost.
func physicals(list []site) []site {
	out := make([]site, len(list))
	for i, s := range list {
		out[i] = s.physical()
		out[i].calls = out[i].calls[:min(len(out[i].calls), heaptrackMost)]
		if out[i].calls[0].function == "allocate_dtv" {
			out[i].size = 0 // grows with the libraries, of which heaptrack is one
		}
	}
	return inMain(out, heaptrackMost)
}

// rust compiles a program with rustc.
func rust(t *testing.T, source string) string {
	t.Helper()
	kerneltest.Require(t)
	rustc, err := exec.LookPath("rustc")
	if err != nil {
		if kerneltest.Repeat(10) == 1 {
			t.Skip("the emulated machine has no Rust; what it makes is the same on every kernel")
		}
		kerneltest.Skip(t, "rustc is not installed")
	}
	exe := filepath.Join(t.TempDir(), "rust")
	cmd := exec.Command(rustc, "-g", "-C", "opt-level=2", "-C", "force-frame-pointers=no", "-o", exe, source)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rustc %s: %v\n%s", source, err, out)
	}
	return exe
}

// TestStackOracles: the stacks of all allocations, one after the other, are those that
// heaptrack takes inside the program and gdb at a breakpoint, the latter with inlined
// functions and lines.
func TestStackOracles(t *testing.T) {
	kerneltest.Require(t)
	for _, c := range some([]struct {
		name  string
		build func() string
		args  []string
	}{
		{"C", func() string { return buildStack(t, "stack.c") }, []string{"plain"}},
		{"C++", func() string { return buildStack(t, "stack.cpp", "-std=c++17", "-lstdc++") }, nil},
		{"Rust", func() string { return rust(t, stackPrograms+"stack.rs") }, nil},
	}) {
		t.Run(c.name, func(t *testing.T) {
			argv := append([]string{c.build()}, c.args...)
			said, path := recordStacks(t, nil, argv...)
			checkStacks(t, said, path)
			wholeStacks(t, path)
			mine := captured(t, path)
			t.Run("heaptrack", func(t *testing.T) {
				sameSites(t, "heaptrack", physicals(mine), physicals(heaptracked(t, argv...)))
			})
			t.Run("gdb", func(t *testing.T) {
				sameSites(t, "gdb", inMain(mine, anyFrames), inMain(debugged(t, argv...), anyFrames))
			})
		})
	}
}

// TestStackMusl: musl has no call frame information, and its code is followed.
func TestStackMusl(t *testing.T) {
	for _, c := range some([]struct {
		name  string
		flags []string
	}{{"dynamic", []string{musl}}, {"static", []string{musl, "-static"}}}) {
		t.Run(c.name, func(t *testing.T) {
			program := buildStack(t, "stack.c", c.flags...)
			said, path := recordStacks(t, nil, program, "plain")
			checkStacks(t, said, path)
			wholeStacks(t, path)
			said, path = recordStacks(t, nil, program, "kinds")
			checkStacks(t, said, path)
		})
	}
}

// TestStackStripped: a static program of which only a debug file next to it, or below a
// directory for them, has symbols is found to have an allocator, and its stacks are complete and named. One
// without is said to have none that could be found.
func TestStackStripped(t *testing.T) {
	if kerneltest.Repeat(10) == 1 {
		t.Skip("the emulated machine has no objcopy; what it makes is the same on every kernel")
	}
	program := buildStack(t, "stack.c", "-static")
	linked := strip(t, program, "x", []string{"objcopy", "--only-keep-debug", "x", "x.debug"},
		[]string{"objcopy", "--strip-all", "--add-gnu-debuglink=x.debug", "x"})
	said, path := recordStacks(t, nil, linked, "kinds")
	checkStacks(t, said, path)
	said, path = recordStacks(t, nil, linked, "plain")
	checkStacks(t, said, path)
	wholeStacks(t, path)
	dir := t.TempDir()
	err := os.MkdirAll(dir+filepath.Dir(linked), 0o755)
	if err == nil {
		err = os.Rename(linked+".debug", dir+linked+".debug")
	}
	if err != nil {
		t.Fatal(err)
	}
	said, path = recordStacks(t, func(o *capture.Options) { o.DebugDirs = []string{dir} }, linked, "plain")
	checkStacks(t, said, path)
	wholeStacks(t, path)
	o, notes := options(t)
	bare := strip(t, program, "bare", []string{"strip", "bare"})
	recordWith(t, o, notes, bare, "plain")
	if want := bare + " is linked statically and has no allocator that is known, so its heap is not recorded"; !strings.Contains(notes.String(), want) {
		t.Errorf("tcap says %q, want %q", notes, want)
	}
}

// replaceable is a program, its library, and another one of the same layout.
func replaceable(t *testing.T) (argv []string) {
	t.Helper()
	dir := t.TempDir()
	argv = []string{dir + "/stack", "replaced", "1000", dir + "/alpha", dir + "/gamma"}
	install(t, map[string]string{
		argv[0]: buildStack(t, "stack.c"),
		argv[3]: buildStack(t, "lib.c", "-shared", "-fPIC", "-DNAME=alpha"),
		argv[4]: buildStack(t, "lib.c", "-shared", "-fPIC", "-DNAME=gamma", "-O0", "-fno-omit-frame-pointer"),
	})
	return argv
}

// install copies programs.
func install(t *testing.T, programs map[string]string) {
	t.Helper()
	for to, from := range programs {
		program, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, program, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestStackReplaced: a program whose file was removed, and whose library's place
// another one took, is unwound and named by the files that it runs, both if tcap saw
// them and if it came later.
func TestStackReplaced(t *testing.T) {
	for _, c := range []struct{ name, attach string }{{"while recorded", "begun"}, {"before", "replaced"}} {
		t.Run(c.name, func(t *testing.T) {
			argv := replaceable(t)
			p := start(t, argv...)
			var rec *recording
			for _, word := range []string{"begun", "loaded", "replaced"} {
				p.await(word)
				if word == c.attach {
					rec = attachTo(t, p)
				}
				if rec != nil && word == "loaded" {
					awaitOpened(t, argv[3])
				}
				p.tell('.')
			}
			p.wait()
			r := rec.ended(p.all.String())
			checkStacks(t, p.all.String(), r.path)
			wholeStacks(t, r.path)
		})
	}
}

// awaitOpened waits until this process, which is also the recorder, has a file open.
func awaitOpened(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		fds, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && to == path {
				return
			}
		}
	}
	t.Fatalf("the recorder did not open %s", path)
}

// TestStackTrampolines: where the return of a caller is probed, the kernel has put a
// trampoline's address in the place of the caller's; also of many at once, of more
// than the kernel keeps, of recursion, and of two for one place of the stack.
func TestStackTrampolines(t *testing.T) {
	program := buildStack(t, "stack.c")
	said, path := recordStacks(t, func(o *capture.Options) {
		o.Probes = declarations(t, program, "uretprobe:@:main", "uretprobe:@:aligned", "uretprobe:@:variable",
			"uretprobe:@:recurse", "uretprobe:@:jump", "uretprobe:@:left", "uretprobe:@:leaf")
	}, program, "plain")
	checkStacks(t, said, path)
	wholeStacks(t, path)
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	calls := map[string]int{}
	for c, err := range r.Calls(format.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		calls[c.Probe.Name[strings.LastIndexByte(c.Probe.Name, ':')+1:]]++
	}
	if calls["recurse"] != 3*(21+22+201) || calls["jump"] != 1 || calls["left"] != 4 {
		t.Errorf("calls %v: were returns pending?", calls)
	}
}

// TestStackGo: where Go calls C, the stack is that of the thread, and is known up to
// where the runtime left the goroutine's; that it has no more is said.
func TestStackGo(t *testing.T) {
	kerneltest.Require(t)
	tool, err := exec.LookPath("go")
	switch {
	case err != nil && kerneltest.Repeat(10) == 1:
		t.Skip("the emulated machine has no Go; what Go makes is the same on every kernel")
	case err != nil:
		kerneltest.Skip(t, "go is not in the path")
	}
	exe := filepath.Join(t.TempDir(), "cgo")
	cmd := exec.Command(tool, "build", "-o", exe, stackPrograms+"cgo.go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "CC=gcc", "CGO_CFLAGS=-O2 -g -fomit-frame-pointer")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said, path := recordStacks(t, nil, exe)
	checkStacks(t, said, path)
	ends := stackEnds(t, path)
	if ends[format.EndSwitched] < 40 || len(ends) > 2 || ends[format.EndSwitched]+ends[format.EndComplete] == 0 {
		t.Errorf("ends of stacks: %v, want those of 40 calls to be switched, the others complete", ends)
	}
	for _, s := range captured(t, path) {
		if s.size >= 4000 && s.size < 4040 && s.calls[len(s.calls)-1].function != "runtime.asmcgocall" {
			t.Errorf("%s: want it to end where Go called C", &s)
		}
	}
}
