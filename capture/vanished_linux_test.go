package capture

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestVanished: what /proc says of a process that ends while it is looked into,
// before it was waited for and after, is no failure of the recording.
func TestVanished(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	var info unix.Siginfo // it stays a zombie
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	_, zombie := os.Stat(procPath(pid, "map_files", "1000-2000"))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	_, gone := os.Stat(procPath(pid, "map_files", "1000-2000"))
	r := &recorder{opts: Options{Packs: []string{"heap"}}}
	for name, err := range map[string]error{"zombie": zombie, "gone": gone, "lookup": unix.ESRCH} {
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		h := &targetProbes{r: r, pack: "heap", wanted: true}
		if got := h.failed(fmt.Errorf("attach: %w", err)); got != nil || h.broken != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if h := (&targetProbes{r: r, pack: "heap", wanted: true}); h.failed(unix.EINVAL) == nil {
		t.Error("another error is no failure")
	}
}
