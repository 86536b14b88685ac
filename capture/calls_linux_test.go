package capture_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// A recordedCall is a call as a capture has it, with its arguments as text.
type recordedCall struct {
	probe    string
	outcome  int
	depth    int
	duration int64
	entry    int64
	task     format.Task
	args     string
	stack    []format.Frame
	end      format.StackEnd
}

// calls are the calls that a capture has, and what the recorder warned of.
func calls(t *testing.T, path string) (list []recordedCall, notes string) {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if found, err := r.Validate(); err != nil || len(found) > 0 {
		t.Fatalf("the capture is not sound: %v, %v", found, err)
	}
	var lost int64 // of all windows: a program that is slow is lost of in several
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindNote, format.KindLoss)}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == format.KindLoss {
			lost += int64(e.V[format.LossCount])
			continue
		}
		if e.V[format.NoteLevel] == 1 { // a warning
			notes += r.String(format.StringID(e.V[format.NoteText])) + "\n"
		}
	}
	if lost != 0 {
		notes += fmt.Sprintf("lost %d\n", lost)
	}
	for c, err := range r.Calls(format.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		rec := recordedCall{probe: c.Probe.Name, outcome: c.Outcome, depth: c.Depth, duration: c.Duration(), entry: c.Entry, task: r.Task(c.Task)}
		for i := range c.Args {
			rec.args += " " + c.Probe.Args[i].Name + "=" + string(r.AppendArg(nil, c.Probe.Args[i].Type, &c.Args[i]))
		}
		rec.args = strings.TrimPrefix(rec.args, " ")
		rec.stack, rec.end = r.Stack(c.Stack, nil), r.StackEnd(c.Stack)
		list = append(list, rec)
	}
	return list, notes
}

// declarations parses probes; @ stands for the program.
func declarations(t *testing.T, program string, texts ...string) []capture.Probe {
	t.Helper()
	var list []capture.Probe
	for _, s := range texts {
		d, err := declare.Parse(strings.ReplaceAll(s, "@", program))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		list = append(list, capture.Probe{Decl: d})
	}
	return list
}

// callsProgram compiles testdata/programs/calls.
func callsProgram(t *testing.T, flags ...string) string {
	t.Helper()
	kerneltest.Require(t)
	return kerneltest.Build(t, "../testdata/programs/calls/calls.c", append([]string{"-O2", "-pthread", "-w"}, flags...)...)
}

// recordCalls runs a program with declared probes.
func recordCalls(t *testing.T, argv []string, probes ...string) ([]recordedCall, string) {
	t.Helper()
	o, notes := options(t)
	o.Packs = nil
	o.Probes = declarations(t, argv[0], probes...)
	res := recordWith(t, o, notes, argv...)
	return calls(t, res.path)
}

// only are the calls of one probe, as text.
func only(list []recordedCall, probe string) (out []string) {
	for _, c := range list {
		if strings.HasSuffix(c.probe, ":"+probe) {
			out = append(out, fmt.Sprintf("%s depth=%d %s", outcomes[c.outcome], c.depth, c.args))
		}
	}
	return out
}

var outcomes = []string{"returned", "entered", "left", "unfinished", "unentered"}

func sameLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestCallArguments(t *testing.T) {
	program := callsProgram(t)
	list, notes := recordCalls(t, []string{program, "args", "3"},
		"uretprobe:@:handle(fd=u32(arg0+24), minus=i16(*(arg0+28)), byte=u8(arg0->30), name=str(arg0->32->8), addr=ipaddr(arg0+40), "+
			"q=buf(arg1, u32(arg2)), s=str(arg1, 6), fn=sym(arg3), null=ptr(arg4), nope=u64(arg4->8), rc=i64(retval), comm, pid)",
		"uprobe:@:many(a=u8(arg0), g=i64(arg6), h=i64(arg7))")
	var want []string
	for i := range 3 {
		want = append(want, fmt.Sprintf(`returned depth=1 fd=%d minus=%d byte=200 name="inner name" addr=10.0.0.%d q="select %d" s="select"+2 fn=callback null=0x0 nope=? rc=%d comm=%s pid=%d`,
			i, -i, i, i, -2*i, filepath.Base(program)[:min(15, len(filepath.Base(program)))], list[0].task.Pid))
	}
	sameLines(t, "handle", only(list, "handle"), want)
	sameLines(t, "many", only(list, "many"), []string{"entered depth=1 a=1 g=7 h=-8"})
	if notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

func TestCallTexts(t *testing.T) {
	program := callsProgram(t)
	list, _ := recordCalls(t, []string{program, "texts"}, "uprobe:@:handle(s=str(arg1), b=buf(arg1, i32(arg2), 16k))")
	x := func(n int) string { return strings.Repeat("x", n) }
	cut := func(n, more int) string { return fmt.Sprintf("%q+%d", x(n), more) }
	got := only(list, "handle")
	for i, want := range []string{
		"s=xxx b=\"xxx\\x00" + x(4996) + `"`,
		"s=" + x(4095) + " b=" + x(4095),
		"s=" + x(4096) + " b=" + x(4096),
		"s=" + cut(4096, 1) + " b=" + x(4097),
		"s=" + cut(4096, 20000-4096) + " b=" + cut(16384, 20000-16384),
		"s=? b=?",
		"s=- b=-",
		`s=neg b=?`,                           // 4 GB of it
		"s=" + cut(4096, 4096*4095) + "+ b=-", // is looked for its end no further
		"s=" + cut(4096, 3<<20-4096) + " b=-",
		"s=" + cut(4096, 4095) + "+ b=-", // its last byte is in what could not be read as a whole
	} {
		if i >= len(got) {
			t.Fatalf("%d calls", len(got))
		}
		if have := strings.TrimPrefix(got[i], "entered depth=1 "); have != want {
			t.Errorf("call %d:\n got %.200s\nwant %.200s", i, have, want)
		}
	}
}

// Calls of several threads are told apart, and of each thread none is missing.
func TestCallThreads(t *testing.T) {
	program := callsProgram(t)
	list, notes := recordCalls(t, []string{program, "threads"}, "uretprobe:@:handle(fd=u32(arg0->24), i=i32(arg2), rc=i64(retval))")
	next := map[uint32]int{}
	fds := map[uint32]string{}
	for _, c := range list {
		fd, rest, _ := strings.Cut(c.args, " ")
		if fds[c.task.Tid] == "" {
			fds[c.task.Tid] = fd
		}
		n, _ := strconv.Atoi(strings.TrimPrefix(fd, "fd="))
		if want := fmt.Sprintf("i=%d rc=%d", next[c.task.Tid], -2*n); rest != want || fds[c.task.Tid] != fd || c.depth != 1 || c.outcome != format.CallReturned {
			t.Fatalf("thread %d: %+v, want %s", c.task.Tid, c, want)
		}
		next[c.task.Tid]++
	}
	if len(next) != 4 || len(list) != 2000 || notes != "" {
		t.Errorf("%d calls of %d threads; notes %s", len(list), len(next), notes)
	}
}

// Recursion: each call has its depth, and lies within the one around it.
func TestCallRecursion(t *testing.T) {
	program := callsProgram(t)
	list, _ := recordCalls(t, []string{program, "fib", "8"}, "uretprobe:@:fib(n=i64(arg0), r=i64(retval))")
	fib := []int{0, 1, 1, 2, 3, 5, 8, 13, 21}
	if len(list) != 67 { // calls of fib(8)
		t.Errorf("%d calls", len(list))
	}
	for i, c := range list {
		var n, r int
		if _, err := fmt.Sscanf(c.args, "n=%d r=%d", &n, &r); err != nil || r != fib[n] || c.depth != 9-n && n > 1 && c.depth > 9-n {
			t.Errorf("call %d: %+v", i, c)
		}
	}
	outer := list[len(list)-1]
	if outer.depth != 1 || outer.args != "n=8 r=21" {
		t.Errorf("the last to return is %+v", outer)
	}
}

// Calls deeper than are kept are counted as lost, and the others are right.
func TestCallTooDeep(t *testing.T) {
	program := callsProgram(t)
	list, notes := recordCalls(t, []string{program, "down", "300"}, "uretprobe:@:down(n=i64(arg0), r=i64(retval))")
	const kept = 64 // MAX_URETPROBE_DEPTH of the kernel
	if len(list) != kept || !strings.Contains(notes, fmt.Sprint("lost ", 301-kept)) {
		t.Errorf("%d calls, notes %s", len(list), notes)
	}
	for i, c := range list {
		if want := fmt.Sprintf("n=%d r=%d", 301-kept+i, 302-kept+i); c.args != want || c.depth != kept-i {
			t.Fatalf("call %d: %+v, want %s", i, c, want)
		}
	}
}

// A call that longjmp leaves is told as soon as its part of the stack is used again.
func TestCallLongjmp(t *testing.T) {
	program := callsProgram(t)
	list, _ := recordCalls(t, []string{program, "longjmp", "3"},
		"uretprobe:@:outer(n=i32(arg0), r=i32(retval))", "uretprobe:@:leaves(n=i32(arg0))", "uretprobe:@:last(n=i32(arg0))")
	sameLines(t, "outer", only(list, "outer"), []string{"left depth=1 n=1 r=?", "left depth=1 n=2 r=?", "left depth=1 n=3 r=?"})
	sameLines(t, "leaves", only(list, "leaves"), []string{"left depth=1 n=1", "left depth=1 n=2", "left depth=1 n=3"})
	sameLines(t, "last", only(list, "last"), []string{"returned depth=1 n=1"})
}

// Two functions of which one ends in a jump to the other return at once.
func TestCallJumps(t *testing.T) {
	program := callsProgram(t)
	list, notes := recordCalls(t, []string{program, "jump", "2"},
		"uretprobe:@:first(n=i32(arg0), r=i32(retval))", "uretprobe:@:last(n=i32(arg0), r=i32(retval))", "uprobe:@:last(again=i32(arg0))")
	sameLines(t, "first", only(list, "first"), []string{"returned depth=1 n=0 r=101", "returned depth=1 n=1 r=102"})
	sameLines(t, "last", only(list, "last"), []string{
		"entered depth=1 again=1", "returned depth=1 n=1 r=101", "entered depth=1 again=2", "returned depth=1 n=2 r=102"})
	if notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

func TestCallAfter(t *testing.T) {
	program := callsProgram(t)
	list, _ := recordCalls(t, []string{program, "fills"}, "uprobe:@:fills(made=str(after(*arg0)), n=i32(arg1)){stack}")
	sameLines(t, "fills", only(list, "fills"), []string{"returned depth=1 made=made n=7"})
	if len(list) == 1 && (len(list[0].stack) == 0 || list[0].stack[0].Function != "main") {
		t.Errorf("stack %+v", list[0].stack)
	}
	// What a call has read lies at its argument, is as long as its result, and there at its end.
	list, _ = recordCalls(t, []string{program, "fills"}, "uprobe:@:copies(text=buf(arg0, i64(retval)))")
	sameLines(t, "copies", only(list, "copies"), []string{`returned depth=1 text="seven\n"`})
}

// A delta is what a call adds to a number: inner calls' part included, in the width
// of its type, a fault when the number was gone at one of both ends.
func TestCallDelta(t *testing.T) {
	program := callsProgram(t)
	list, notes := recordCalls(t, []string{program, "counts"},
		"uprobe:@:adds(n=i32(arg1), ns=i64(delta(arg0->8->0)), wraps=u32(delta(arg0->8->8)), falls=i16(delta(arg0->8+12)), gone=delta(*(*arg2)), never=i64(delta(arg1->8)))",
		"uprobe:@:adds(much=u64(delta(arg0->8->0))) /much > 5 && i64(delta(arg0->8->0)) < 10/")
	var want []string
	for _, n := range []int{1, 2, 3, 4, 1} {
		for inner, sum := 1, 1; inner <= n; inner++ {
			gone, depth := "0", 1+n-inner
			if inner == 4 || len(want) >= 12 { // unmapped in this call, or before
				gone = "?"
			}
			want = append(want, fmt.Sprintf("returned depth=%d n=%d ns=%d wraps=%d falls=%d gone=%s never=?", depth, inner, sum, sum, -sum, gone))
			if sum == 6 {
				want = append(want, fmt.Sprintf("returned depth=%d much=6", depth))
			}
			sum += inner + 1
		}
	}
	got := only(list, "adds")
	slices.Sort(got) // two probes at one place return in any order
	slices.Sort(want)
	sameLines(t, "adds", got, want)
	if notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

func TestCallFilters(t *testing.T) {
	program := callsProgram(t)
	for filter, want := range map[string]string{
		"fd == 3":                            "3",
		"fd >= 7":                            "7 8 9",
		"minus < -7":                         "8 9",
		"minus >= 0 || fd == 9":              "0 9",
		"fd & 1 && fd != 3 && !(fd > 5)":     "1 5",
		"(fd & 6) == 4":                      "4 5",
		"rc == -6":                           "3",
		`str(arg1) == "select 7"`:            "7",
		`str(arg1) != "select 7" && fd > 5`:  "6 8 9",
		`comm == "nosuchprogram" || fd == 2`: "2",
		"u8(arg0->30) == 200 && byte == 200 && fd == 1": "1",
		"u64(arg4->8) == 0 || fd == 4":                  "4", // what cannot be read equals nothing
		`str(arg4) != "x" || fd == 5`:                   "5", // nor is it another text
		`!(str(arg4) != "x") && fd == 6`:                "6",
		`ipaddr(arg0+40) == "10.0.0.3"`:                 "3",
		`ipaddr(arg0+40) != "10.0.0.3" && fd < 5`:       "0 1 2 4",
		"fd == 100": "",
	} {
		t.Run(filter, func(t *testing.T) {
			list, notes := recordCalls(t, []string{program, "args", "10"},
				"uretprobe:@:handle(fd=u32(arg0->24), minus=i16(arg0->28), byte=u8(arg0->30), rc=i64(retval)) /"+filter+"/")
			var got []string
			for _, c := range list {
				fd, _, _ := strings.Cut(strings.TrimPrefix(c.args, "fd="), " ")
				got = append(got, fd)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("got %v, want %s", got, want)
			}
			if hint := strings.Contains(notes, "no call passed the filter"); hint != (want == "") {
				t.Errorf("notes: %q", notes)
			}
		})
	}
}

func TestCallsOfChildren(t *testing.T) {
	program := callsProgram(t)
	list, _ := recordCalls(t, []string{program, "fork", "3"}, "uretprobe:@:handle(fd=u32(arg0->24))")
	pids := map[uint32]int{}
	for _, c := range list {
		pids[c.task.Pid]++
	}
	if len(list) != 6 || len(pids) != 3 {
		t.Errorf("%d calls of %d children", len(list), len(pids))
	}
}

// Without a target, a probe sees every process that runs the file; and a call that
// is running when the recording ends is told.
func TestCallsOfEveryone(t *testing.T) {
	program := callsProgram(t)
	cmd := exec.Command(program, "waits", "42")
	list := recordEveryone(t, program, []string{"uretprobe:@:waits(n=i32(arg0), r=i32(retval))", "uretprobe:@:last(n=i32(arg0))"}, func() {
		startAndWait(t, cmd)
	})
	sameLines(t, "waits", only(list, "waits"), []string{"unfinished depth=1 n=42 r=?"})
	sameLines(t, "last", only(list, "last"), []string{"returned depth=1 n=1"})
	if len(list) == 2 && int(list[0].task.Pid) != cmd.Process.Pid {
		t.Errorf("pid %d, want %d", list[0].task.Pid, cmd.Process.Pid)
	}
}

// startAndWait starts a program, and waits until it says something.
func startAndWait(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
}

// recordEveryone records declared probes without a target while do runs.
func recordEveryone(t *testing.T, program string, probes []string, do func()) []recordedCall {
	t.Helper()
	o, notes := options(t)
	o.Packs = nil
	o.Probes = declarations(t, program, probes...)
	recordWhile(t, o, notes, do)
	list, _ := calls(t, o.Output)
	return list
}

// recordWhile records until do has returned, which begins when the recording has.
func recordWhile(t *testing.T, o capture.Options, notes fmt.Stringer, do func()) {
	t.Helper()
	interrupts := make(chan capture.Interrupt, 1)
	o.Interrupts = interrupts
	started := make(chan struct{})
	begun := sync.OnceFunc(func() { close(started) })
	progress := o.Progress
	o.Progress = func(s capture.Summary) {
		begun()
		if progress != nil {
			progress(s)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := capture.Record(ctx, o)
		done <- err
	}()
	select {
	case <-started:
	case err := <-done:
		t.Fatalf("record: %v (%s)", err, notes)
	}
	do()
	interrupts <- capture.Interrupt{}
	if err := <-done; err != nil {
		t.Fatalf("record: %v (%s)", err, notes)
	}
}

func TestCallErrors(t *testing.T) {
	program := callsProgram(t)
	for declaration, want := range map[string]string{
		"uprobe:@:handel":                         "no such function in .dynsym or .symtab; it has handle",
		"uprobe:@:zz*":                            "matches in .dynsym or .symtab",
		"uprobe:/nonexistent/x:main":              "there is no such file: looked for",
		"usdt:@:a:b":                              "the file has no marks",
		"tracepoint:sched:nosuch":                 "there is no tracepoint sched:nosuch",
		"tracepoint:sched:sched_switch(x=u8(zz))": "there is no field zz; it has [prev_comm",
		"uprobe:/etc/passwd:main":                 "read ELF headers of /etc/passwd: it is no ELF program or library",
		"uprobe:/etc:main":                        "/etc is no regular file",
		"uprobe:/usr/bin/*:no_such_function_":     "and the like of ",
		"kprobe:no_such_function_":                "no",
	} {
		o, _ := options(t)
		o.Packs = nil
		o.Duration = time.Second
		o.Probes = declarations(t, program, declaration)
		_, err := capture.Record(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", declaration, err, want)
		}
		if _, err := os.Stat(o.Output); !os.IsNotExist(err) {
			t.Errorf("%s: a file was left", declaration)
		}
	}
}
