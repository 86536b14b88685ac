package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A report never replaces a capture, its own least of all.
func TestReportOverCapture(t *testing.T) {
	path := writeCapture(t, 100, 0)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"analyze", "leaks", path}, {"analyze", "leaks", "--format", "pprof", path}, {"info", path}, {"print", path}, {"diff", path, path}} {
		for _, out := range []string{path, link} {
			if o := tcap(t, append(args, "-o", out)...); o.code != exitFailed || !strings.Contains(o.stderr, "is a capture") {
				t.Errorf("tcap %q -o its input: exit %d, stderr %q", args, o.code, o.stderr)
			}
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the capture is not what it was: %v", err)
	}
}

// What was never recorded is not complete.
func TestNotRecorded(t *testing.T) {
	path := writeCapture(t, 100, 0) // heap and tcp
	for _, verb := range []string{"leaks", "heap", "tcp", "closes", "calls"} {
		o := tcap(t, "analyze", verb, "--strict", path)
		if want := map[bool]int{true: exitIncomplete, false: exitOK}[verb == "calls"]; o.code != want {
			t.Errorf("%s: exit %d, want %d: %s", verb, o.code, want, o.stderr)
		}
		if strings.Contains(o.stdout, "nothing of calls was recorded") != (verb == "calls") {
			t.Errorf("%s:\n%s", verb, o.stdout)
		}
	}
}

// Values and pairs of flags that mean nothing are refused with the usage's status.
func TestSenseless(t *testing.T) {
	path := writeCapture(t, 100, 0)
	for _, args := range []string{
		"analyze leaks --top -1", "analyze leaks --older -5s", "analyze closes --idle -1s", "analyze queries --slower -1s",
		"analyze leaks --tree --min-percent NaN", "analyze leaks --tree --min-percent 400", "analyze leaks --tree --caller", "analyze calls --rows --tree",
	} {
		if o := tcap(t, append(strings.Fields(args), path)...); o.code != exitUsage || o.stdout != "" {
			t.Errorf("tcap %s: exit %d, stderr %q", args, o.code, o.stderr)
		}
	}
	for _, args := range []string{"record -o /nowhere/x.tcap --", "record -o /nowhere/x.tcap -d 0s", "record -o /nowhere/x.tcap --comm="} {
		if o := tcap(t, strings.Fields(args)...); o.code != exitUsage {
			t.Errorf("tcap %s: exit %d, stderr %q", args, o.code, o.stderr)
		}
	}
}
