package capture

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"golang.org/x/sys/unix"
)

// keyOf is what stat says of a file.
func keyOf(t *testing.T, path string) moduleKey {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return moduleKey{st.Dev, st.Ino}
}

// mounted mounts a file system for the time of the test.
func mounted(t *testing.T, typ, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(typ, dir, typ, 0, options); err != nil {
		kerneltest.Skip(t, fmt.Sprintf("mount %s: %v", typ, err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// overlay mounts one over a tmpfs, in which the lower directory is filled. Of the files,
// the kernel knows by its records the device that mountinfo has of the mount.
func overlay(t *testing.T, fill func(lower string)) (merged string, dev uint64) {
	t.Helper()
	base := mounted(t, "tmpfs", "")
	for _, dir := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fill(filepath.Join(base, "lower"))
	merged = mounted(t, "overlay", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base))
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		var major, minor uint32
		if f := strings.Fields(line); f[4] == merged {
			if _, err := fmt.Sscanf(f[2], "%d:%d", &major, &minor); err != nil {
				t.Fatal(err)
			}
			return merged, unix.Mkdev(major, minor)
		}
	}
	t.Fatalf("mountinfo has no %s", merged)
	return "", 0
}

// TestSameFile: files of different file systems that have the same inode number are not
// taken for each other, and one on overlayfs is known by the device of the mount.
func TestSameFile(t *testing.T) {
	kerneltest.Require(t)
	file := func(dir string) string {
		path := filepath.Join(dir, "lib.so")
		if err := os.WriteFile(path, []byte(dir), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, other := file(mounted(t, "tmpfs", "")), file(mounted(t, "tmpfs", ""))
	a, b := keyOf(t, one), keyOf(t, other)
	if a.inode != b.inode || a.dev == b.dev {
		t.Fatalf("%v and %v: want one inode number on two devices", a, b)
	}
	merged, dev := overlay(t, func(lower string) { file(lower) })
	onOverlay := filepath.Join(merged, "lib.so")
	c := moduleKey{dev, keyOf(t, onOverlay).inode}
	self := uint32(os.Getpid())
	for _, tt := range []struct {
		path string
		key  moduleKey
		pid  uint32
		want bool
	}{
		{one, a, 0, true}, {other, b, 0, true}, {one, b, 0, false}, {other, a, 0, false}, {one, b, self, false},
		{onOverlay, c, 0, true}, {onOverlay, moduleKey{a.dev, c.inode}, 0, false}, {one, moduleKey{dev, a.inode}, self, false},
		{onOverlay, moduleKey{a.dev, c.inode}, self, true}, // the device of the layer, as old kernels have it in maps
		{onOverlay, moduleKey{dev, c.inode + 1}, self, false},
	} {
		f := openSame(tt.path, tt.key, tt.pid)
		if (f != nil) != tt.want {
			t.Errorf("%s as %v, pid %d: opened %v, want %v", tt.path, tt.key, tt.pid, f != nil, tt.want)
		}
		if f != nil {
			f.Close()
		}
	}
}

// TestImageAlike: a process that is replaced by another program at the same addresses, with
// the same arguments and nothing random, does not run the image from before.
func TestImageAlike(t *testing.T) {
	const source = "../testdata/programs/calls/image.c"
	called := kerneltest.Build(t, source, "-DCALLED", "-shared", "-fpic")
	first := kerneltest.Build(t, source, "-w", "-DFIRST", "-fno-pie", "-no-pie", called)
	second := kerneltest.Build(t, source, "-w", "-fno-pie", "-no-pie", called)
	cmd := exec.Command("setarch", "-R", first, "wait", "as", second, "wait")
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
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	pid := uint32(cmd.Process.Pid)
	next := func(exe string) image {
		t.Helper()
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(procPath(pid, "stat"))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		code, err1 := strconv.ParseUint(f[23], 10, 64)
		stack, err2 := strconv.ParseUint(f[25], 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("%q", b)
		}
		return image{code, stack, keyOf(t, exe)}
	}
	a := next(first)
	if !a.runs(pid) {
		t.Errorf("the first program does not run as %+v", a)
	}
	if _, err := io.WriteString(in, "go on\n"); err != nil {
		t.Fatal(err)
	}
	b := next(second)
	if a.startCode != b.startCode || a.startStack != b.startStack {
		t.Fatalf("%+v and %+v: want one place for both", a, b)
	}
	if a.runs(pid) || !b.runs(pid) {
		t.Errorf("the first program runs: %v; the second: %v", a.runs(pid), b.runs(pid))
	}
}
