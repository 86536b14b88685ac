package capture_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// stackProbes are the kinds of places of testdata/programs/calls/stacks.c, and
// stackInner what of a stack is theirs, innermost first.
var (
	stackProbes = []string{
		"uprobe:@:entered(n=i64(arg0)){stack}", "uretprobe:@:entered(n=i64(arg0)){stack}",
		"usdt:@:demo:inside(n=i64(arg0)){stack}", "tracepoint:syscalls:sys_enter_getpgid{stack}",
	}
	stackInner = map[string][]string{
		"uprobe:": {}, "uretprobe:": {}, "usdt:": {"marked"}, "tracepoint:": {"asks"}, "kprobe:": {"asks"},
	}
)

// allStackProbes are stackProbes, and a function of the kernel where that can be probed.
func allStackProbes() []string {
	if _, err := os.Stat("/sys/bus/event_source/devices/kprobe"); err != nil || runtime.GOARCH != "amd64" {
		return stackProbes
	}
	return append(slices.Clone(stackProbes), "kprobe:__x64_sys_getpgid{stack}")
}

// checkCallStacks wants so many calls from each caller at each probe, each with
// its stack, up to and with the function outermost.
func checkCallStacks(t *testing.T, list []recordedCall, probes, each int, outermost string) {
	t.Helper()
	got := map[string]int{}
	for _, c := range list {
		kind, _, _ := strings.Cut(c.probe, ":")
		inner := stackInner[kind+":"]
		var names []string
		for _, f := range c.stack {
			names = append(names, f.Function)
			if f.Function == outermost {
				break
			}
		}
		var caller string
		if len(names) > len(inner) {
			caller = names[len(inner)]
		}
		if want := append(slices.Clone(inner), caller, "outer", "main"); len(names) < len(want) || !slices.Equal(names[:len(want)], want) ||
			names[len(names)-1] != outermost {
			t.Fatalf("%s: stack %v (%v), want %v ... %s", c.probe, names, c.end, want, outermost)
		}
		if outermost != "main" && c.end != format.EndComplete {
			t.Errorf("%s: stack %v ends with %v", c.probe, names, c.end)
		}
		if n, ok := strings.CutPrefix(c.args, "n="); ok && (n[len(n)-1]-'0')%2 == 1 != (caller == "by_b") {
			t.Errorf("%s(%s) was called by %s", c.probe, c.args, caller)
		}
		got[kind+" "+caller]++
	}
	if len(got) != 2*probes {
		t.Errorf("stacks by probe and caller: %v", got)
	}
	for at, n := range got {
		if n != each {
			t.Errorf("%s: %d calls, want %d", at, n, each)
		}
	}
}

// Stacks of a program without frame pointers are whole, of every kind of
// probe: at an entry the caller's, inside a function its own. They are
// recognised: most are never sent.
func TestCallStacks(t *testing.T) {
	for _, c := range some([]struct {
		name  string
		flags []string
	}{{"shared", nil}, {"static", []string{"-static"}}}) {
		t.Run(c.name, func(t *testing.T) {
			program := kerneltest.Build(t, "../testdata/programs/calls/stacks.c", append(slices.Clone(noFramePointers), c.flags...)...)
			const n = 200
			o, said := options(t)
			o.Packs = nil
			probes := allStackProbes()
			o.Probes = declarations(t, program, probes...)
			res := recordWith(t, o, said, program, fmt.Sprint(n))
			list, notes := calls(t, res.path)
			checkCallStacks(t, list, len(probes), n, "_start")
			if notes != "" {
				t.Errorf("notes: %s", notes)
			}
			if sent := signatures(t, res.path); sent == 0 || sent > 200 {
				t.Errorf("%d signatures of %d stacks", sent, len(list))
			}
		})
	}
}

// signatures is how many stacks a recording had to be sent.
func signatures(t *testing.T, path string) (n int) {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindNote)}) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Sscanf(r.String(format.StringID(e.V[format.NoteText])), "stacks: %d signatures", &n)
	}
	return n
}

// By frame pointers, a stack goes as far as the program keeps them; without
// stacks there are none.
func TestCallStacksBy(t *testing.T) {
	program := kerneltest.Build(t, "../testdata/programs/calls/stacks.c", "-O2", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")
	for _, by := range []string{capture.StacksFP, capture.StacksNone} {
		o, said := options(t)
		o.Packs, o.Stacks = nil, by
		o.Probes = declarations(t, program, stackProbes...)
		list, _ := calls(t, recordWith(t, o, said, program, "10").path)
		if by == capture.StacksNone {
			for _, c := range list {
				if len(c.stack) > 0 {
					t.Fatalf("%s has a stack", c.probe)
				}
			}
			continue
		}
		// asks needs no frame, so compilers give it none even so.
		list = slices.DeleteFunc(list, func(c recordedCall) bool { return strings.HasPrefix(c.probe, "tracepoint:") })
		checkCallStacks(t, list, len(stackProbes)-1, 10, "main")
	}
}

// Without a target, a process is followed from its first hit on, and its stacks
// are as whole.
func TestCallStacksOfEveryone(t *testing.T) {
	program := kerneltest.Build(t, "../testdata/programs/calls/stacks.c", noFramePointers...)
	const n = 200
	var cmds []*exec.Cmd
	list := recordEveryone(t, program, stackProbes[:3], func() {
		for range 3 {
			cmd := exec.Command(program, fmt.Sprint(n), "pause") // until what it has mapped was read
			startAndWait(t, cmd)
			cmds = append(cmds, cmd)
		}
	})
	checkCallStacks(t, list, 3, 3*n, "_start")
	pids := map[int]int{}
	for _, c := range list {
		pids[int(c.task.Pid)]++
		if name := filepath.Base(program); c.task.Comm != name[:min(15, len(name))] {
			t.Fatalf("comm %q of %s", c.task.Comm, name)
		}
	}
	for _, cmd := range cmds {
		if pids[cmd.Process.Pid] != 6*n {
			t.Errorf("%v, want %d of each", pids, 6*n)
		}
	}
}
