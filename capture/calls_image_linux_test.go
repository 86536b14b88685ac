package capture_test

import (
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// An imageRun is a run of testdata/programs/calls/image.c that waits once between hits.
type imageRun struct {
	name  string
	steps []string
	want  []string // calls, with their caller
	cmd   *exec.Cmd
}

const imageSource = "../testdata/programs/calls/image.c"

// calledLibrary has the function that is called.
func calledLibrary(t *testing.T) string {
	t.Helper()
	kerneltest.Require(t)
	return kerneltest.Build(t, imageSource, "-DCALLED", "-shared", "-fpic")
}

func imagePrograms(t *testing.T, called string, flags ...string) (first, second string) {
	t.Helper()
	flags = append(flags, "-w", called)
	return kerneltest.Build(t, imageSource, append(flags, "-DFIRST")...), kerneltest.Build(t, imageSource, flags...)
}

// recordImages records the runs without a target: the recorder has seen all that came
// before the pause when they go on, and they are there until the recording ends.
func recordImages(t *testing.T, o capture.Options, said fmt.Stringer, runs []*imageRun) []recordedCall {
	t.Helper()
	ticks := make(chan struct{})
	o.Progress = func(capture.Summary) {
		select {
		case ticks <- struct{}{}:
		default:
		}
	}
	recordWhile(t, o, said, func() {
		var pipes []io.Writer
		for _, run := range runs {
			run.cmd = exec.Command(run.steps[0], append(run.steps[1:], "wait")...)
			in, err := run.cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := run.cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := run.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { run.cmd.Process.Kill(); run.cmd.Wait() })
			pipes = append(pipes, in)
			awaitByte(t, run.name, out)
			defer awaitByte(t, run.name, out)
		}
		// Between the second and the first, the ring was emptied.
		for range 2 {
			<-ticks
		}
		for _, in := range pipes {
			if _, err := io.WriteString(in, "go on\n"); err != nil {
				t.Fatal(err)
			}
		}
	})
	list, _ := calls(t, o.Output)
	return list
}

func awaitByte(t *testing.T, name string, from io.Reader) {
	t.Helper()
	if _, err := io.ReadFull(from, make([]byte, 1)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// Without a target, a call is named by the image that it came from: by the program after
// an exec, and by a library that was opened since the first call.
func TestCallImagesOfEveryone(t *testing.T) {
	called := calledLibrary(t)
	pie, pie2 := imagePrograms(t, called, "-fpie", "-pie")
	fixed, fixed2 := imagePrograms(t, called, "-fno-pie", "-no-pie")
	library := kerneltest.Build(t, imageSource, "-DLIBRARY", "-shared", "-fpic")
	own := []string{"first_handles by first_calls", "second_handles by second_calls"}
	runs := []*imageRun{
		{name: "pie", steps: []string{pie, "hit", "wait", "exec", pie2, "hit"}, want: own},
		{name: "no pie", steps: []string{fixed, "hit", "wait", "exec", fixed2, "hit"}, want: own},
		{name: "library", steps: []string{pie, "hit", "wait", "open", library}, want: []string{own[0], "plugin_handles by plugin_calls"}},
		{name: "hasty", steps: []string{fixed, "wait", "hit", "exec", fixed2, "hit"}, want: own},
	}
	for _, by := range []string{capture.StacksDwarf, capture.StacksNone} {
		o, said := options(t)
		o.Packs, o.Stacks = nil, by
		o.Probes = declarations(t, called, "uprobe:@:called(to=sym(arg0)) {caller}")
		list := recordImages(t, o, said, runs)
		for _, run := range runs {
			var got []string
			for _, c := range list {
				if int(c.task.Pid) == run.cmd.Process.Pid {
					var by string
					if len(c.stack) > 0 {
						by = c.stack[0].Function
					}
					name, _, _ := strings.Cut(strings.TrimPrefix(c.args, "to="), "+")
					got = append(got, name+" by "+by)
				}
			}
			// What is replaced at once may have been gone when it was looked for: then
			// it has no name, but never that of the other.
			if run.name == "hasty" && len(got) == 2 && !strings.Contains(got[0], "second") {
				got[0] = run.want[0]
			}
			sameLines(t, by+", "+run.name, got, run.want)
		}
	}
}

// Without a target and places in code, processes are not followed: their calls tell of
// the user that they have, and that they are another program.
func TestCallUsersOfEveryone(t *testing.T) {
	called := calledLibrary(t)
	first, second := imagePrograms(t, called)
	for _, place := range []string{"", "{caller}"} {
		o, said := options(t)
		o.Packs = nil
		o.Probes = declarations(t, called, "uprobe:@:called(to=ptr(arg0))"+place)
		run := &imageRun{steps: []string{first, "hit", "wait", "exec", second, "hit", "uid", "1234", "hit"}}
		var uids, spaces []uint32
		for _, c := range recordImages(t, o, said, []*imageRun{run}) {
			if int(c.task.Pid) == run.cmd.Process.Pid {
				uids, spaces = append(uids, c.task.Uid), append(spaces, c.task.Space)
			}
		}
		if want := []uint32{0, 0, 1234}; !slices.Equal(uids, want) {
			t.Errorf("%q: users %v, want %v", place, uids, want)
		}
		if len(spaces) != 3 || spaces[0] == spaces[1] || spaces[1] != spaces[2] {
			t.Errorf("%q: address spaces %v, want one, and another twice", place, spaces)
		}
	}
}
