package capture

import (
	"bufio"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"golang.org/x/sys/unix"
)

// begun returns a recorder that records nothing yet, with its file.
func begun(t *testing.T) *recorder {
	t.Helper()
	kerneltest.Require(t)
	r := &recorder{alive: map[uint32]bool{}, opts: Options{Output: filepath.Join(t.TempDir(), "alive.tcap"), RingSize: 1 << 16}}
	t.Cleanup(r.abandon)
	var err error
	if r.file, err = create(r.opts.Output, false); err != nil {
		t.Fatal(err)
	}
	if err := r.load(); err != nil {
		t.Fatal(err)
	}
	r.modules = newModules()
	if err := r.newWriter(anchor()); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEndedBeforeTheHooks: a target that ended before its end could be told of
// does not keep the recording going, nor is its number followed.
func TestEndedBeforeTheHooks(t *testing.T) {
	r := begun(t)
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	var info unix.Siginfo // it stays a zombie
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	zombie, self := uint32(cmd.Process.Pid), uint32(os.Getpid())
	for _, pid := range []uint32{zombie, self} {
		r.alive[pid] = true
		if err := r.objs.Targets.Put(pid, uint8(1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.adopt([]uint32{zombie, self}, monotonic()); err != nil {
		t.Fatal(err)
	}
	var one uint8
	if r.alive[zombie] || r.objs.Targets.Lookup(zombie, &one) == nil {
		t.Error("the process that has ended is followed")
	}
	if !r.alive[self] || r.objs.Targets.Lookup(self, &one) != nil {
		t.Error("the process that has not ended is not followed")
	}
}

// TestLostBirthsAndEnds: after a loss, the targets are those that the kernel
// knows, zombies not among them.
func TestLostBirthsAndEnds(t *testing.T) {
	r := begun(t)
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); bufio.NewReader(out).ReadByte(); cmd.Wait() }()
	pid, self := uint32(cmd.Process.Pid), uint32(os.Getpid())
	if err := r.objs.Targets.Put(pid, uint8(1)); err != nil { // its birth was lost
		t.Fatal(err)
	}
	r.alive[self] = true // the end of this one was
	if err := r.check(); err != nil || r.alive[pid] {
		t.Fatalf("without a loss nothing is counted anew: %v, %v", r.alive, err)
	}
	r.loss.total++
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	if want := map[uint32]bool{pid: true}; !maps.Equal(r.alive, want) {
		t.Errorf("targets %v, want %v", r.alive, want)
	}
}
