package tracefs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

func TestParseDefinition(t *testing.T) {
	for _, tt := range []struct {
		line, group, event string
		ok                 bool
	}{
		{"p:tcap_12_ab/e0 /proc/self/fd/7:0x1234", "tcap_12_ab", "e0", true},
		{"r:g/e /bin/x:0x1 arg1=%di", "g", "e", true},
		{"-:g/e", "", "", false},
		{"p:g /bin/x:0x1", "", "", false},
		{"p:g/../e /bin/x:0x1", "", "", false},
		{"", "", "", false},
		{"p8:g/e x", "", "", false},
	} {
		group, event, ok := parseDefinition(tt.line)
		if ok != tt.ok || ok && (group != tt.group || event != tt.event) {
			t.Errorf("parseDefinition(%q) = %q, %q, %v", tt.line, group, event, ok)
		}
	}
}

func FuzzParseDefinition(f *testing.F) {
	f.Add("p:tcap_12_ab/e0 /proc/self/fd/7:0x1234")
	f.Fuzz(func(t *testing.T, line string) {
		if g, e, ok := parseDefinition(line); ok && (g == "" || e == "" || strings.ContainsAny(g+e, "/ \n")) {
			t.Errorf("parseDefinition(%q) let %q/%q pass", line, g, e)
		}
	})
}

func TestStale(t *testing.T) {
	gone := exitedPid(t)
	for _, tt := range []struct {
		group string
		want  bool
	}{
		{fmt.Sprintf("tcap_%d_1f", gone), true},
		{fmt.Sprintf("tcap_%d", gone), true},
		{fmt.Sprintf("tcap_%d_1f", os.Getpid()), false},
		{fmt.Sprintf("other_%d_1f", gone), false},
		{"tcap_x_1f", false},
		{"tcap_-1_1f", false},
		{"tcap_0", false},
		{"tcap_99999999999999999999", false},
	} {
		if got := stale(tt.group, "tcap"); got != tt.want {
			t.Errorf("stale(%q) = %v, want %v", tt.group, got, tt.want)
		}
	}
}

// exitedPid returns the pid of a process that has ended and was reaped.
func exitedPid(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// exercise defines, looks up and removes a probe in f.
func exercise(t *testing.T, f *FS, group string) {
	t.Helper()
	if _, err := f.EventID("sched", "sched_process_exit"); err != nil {
		t.Errorf("id of a static event: %v", err)
	}
	if _, err := f.EventID("sched", "no_such_event"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("id of an unknown event: %v, want ErrNotExist", err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.AddUprobe(group, "e", exe, 0x1000, false, 0); err != nil {
		t.Fatal(err)
	}
	id, err := f.EventID(group, "e")
	if err != nil || id == 0 {
		t.Errorf("id of the new event: %d, %v", id, err)
	}
	if err := f.Remove(group, "e"); err != nil {
		t.Error(err)
	}
	if _, err := f.EventID(group, "e"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("id of the removed event: %v, want ErrNotExist", err)
	}
	if err := f.Remove(group, "e"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("removing it again: %v, want ENOENT", err)
	}
}

func TestOpen(t *testing.T) {
	kerneltest.Require(t)
	f, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.ReadOnly() != nil {
		t.Fatal(f.ReadOnly())
	}
	exercise(t, f, fmt.Sprintf("tcaptest_%d_open", os.Getpid()))
}

func TestPrivateMount(t *testing.T) {
	kerneltest.Require(t)
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	f, err := openPrivate()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	exercise(t, f, fmt.Sprintf("tcaptest_%d_private", os.Getpid()))
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("the private mount shows in mountinfo")
	}
}

func TestBadArguments(t *testing.T) {
	kerneltest.Require(t)
	f, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	group := fmt.Sprintf("tcaptest_%d_bad", os.Getpid())
	for name, err := range map[string]error{
		"space in path":   f.AddUprobe(group, "e", "/tmp/a b", 0, false, 0),
		"newline in path": f.AddUprobe(group, "e", "/bin/true\n-:x/y", 0, false, 0),
		"slash in group":  f.AddUprobe("a/b", "e", "/bin/true", 0, false, 0),
		"empty event":     f.AddUprobe(group, "", "/bin/true", 0, false, 0),
		"missing file":    f.AddUprobe(group, "e", "/nonexistent", 0, false, 0),
		"directory":       f.AddUprobe(group, "e", "/tmp", 0, false, 0),
		"dots":            f.Remove("..", "e"),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRemoveStale(t *testing.T) {
	kerneltest.Require(t)
	f, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A prefix of its own, so that no concurrent test or recorder is met.
	prefix := fmt.Sprintf("tcapstale%d", os.Getpid())
	dead := fmt.Sprintf("%s_%d_1", prefix, exitedPid(t))
	live := fmt.Sprintf("%s_%d_1", prefix, os.Getpid())
	for _, group := range []string{dead, live} {
		for i := range 2 { // two places: one event, two lines
			if err := f.AddUprobe(group, "e", exe, uint64(0x1000+16*i), false, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer f.Remove(live, "e")
	n, err := f.RemoveStale(prefix)
	if err != nil || n != 1 {
		t.Errorf("RemoveStale = %d, %v; want 1 event", n, err)
	}
	if _, err := f.EventID(dead, "e"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead recorder's event: %v, want ErrNotExist", err)
	}
	if _, err := f.EventID(live, "e"); err != nil {
		t.Errorf("the living recorder's event: %v", err)
	}
}
