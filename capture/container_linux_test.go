package capture_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/analyze"
	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// mappedBy are the files that a program and its loader map, by the loader's own word.
func mappedBy(t *testing.T, exe string) []string {
	t.Helper()
	out, err := exec.Command("ldd", exe).Output()
	if err != nil {
		t.Fatalf("ldd: %v", err)
	}
	files := []string{exe}
	for _, field := range strings.Fields(string(out)) {
		if filepath.IsAbs(field) {
			files = append(files, field)
		}
	}
	return files
}

// enterContainer becomes a program in a container: its root is an overlay, of which no layer
// and no mount is to be seen from outside; and it has a child that nobody waits for.
const enterContainer = `set -e
base=$1; shift; program=$1; shift
mount --make-rprivate /
mount -t tmpfs none "$base"
mkdir -p "$base/lower/usr/bin" "$base/upper" "$base/work" "$base/root"
while [ "$1" != run ]; do mkdir -p "$base/lower/${1%/*}"; cp "$1" "$base/lower/$1"; shift; done
shift
cp "$program" "$base/lower/usr/bin/x"
mount -t overlay overlay -o "lowerdir=$base/lower,upperdir=$base/upper,workdir=$base/work" "$base/root"
true &
exec chroot "$base/root" /usr/bin/x "$@"
`

// contain starts a program, as /usr/bin/x, in a container.
func contain(t *testing.T, exe string, args ...string) *target {
	t.Helper()
	kerneltest.Require(t)
	if out, err := exec.Command("grep", "overlay", "/proc/filesystems").CombinedOutput(); err != nil {
		kerneltest.Skip(t, fmt.Sprintf("the kernel has no overlayfs: %v, %s", err, out))
	}
	argv := []string{"sh", "-c", enterContainer, "sh", t.TempDir(), exe}
	argv = append(append(append(argv, mappedBy(t, exe)[1:]...), "run"), args...)
	return startAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}, argv...)
}

// TestContainerCalls: a function of a program on a container's overlay is probed by the path
// that the container has for it and by one from outside, with that process as target and
// without one, and its caller has a name.
func TestContainerCalls(t *testing.T) {
	exe := callsProgram(t)
	for _, c := range []struct {
		name    string
		outside bool
		target  bool
	}{{"path inside", false, true}, {"path outside", true, true}, {"without target", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			p := contain(t, exe, "later", "args", "2")
			p.await("ready")
			path := "/usr/bin/x"
			if c.outside {
				path = fmt.Sprintf("/proc/%d/root/usr/bin/x", p.cmd.Process.Pid)
			}
			o, said := options(t)
			o.Packs = nil
			o.Probes = declarations(t, path, "uretprobe:@:handle(fd=u32(arg0->24), rc=i64(retval), fn=sym(arg3)) {caller}")
			if c.target {
				o.Pids = []int{p.cmd.Process.Pid}
			}
			recordWhile(t, o, said, func() {
				p.tell('\n')
				p.wait()
			})
			list, notes := calls(t, o.Output)
			var got []string
			for _, x := range list {
				if int(x.task.Pid) != p.cmd.Process.Pid {
					t.Errorf("pid %d, want %d", x.task.Pid, p.cmd.Process.Pid)
				}
				args := x.args // without a target, the process has ended before it is looked into
				if c.target && (len(x.stack) != 1 || x.stack[0].Function != "args" || !strings.HasSuffix(args, " fn=callback")) {
					t.Errorf("called from %+v with %s, want args and callback", x.stack, args)
				}
				args, _, _ = strings.Cut(args, " fn=")
				got = append(got, args)
			}
			sameLines(t, "handle", got, []string{"fd=0 rc=0", "fd=1 rc=-2"})
			if notes != "" {
				t.Errorf("notes: %s", notes)
			}
		})
	}
}

// TestContainerHeap: so is the heap of such a program, whose C library is there, too.
func TestContainerHeap(t *testing.T) {
	p := contain(t, build(t, "heap.c", "-ldl"), "serve")
	p.await("ready")
	rec := attachTo(t, p)
	for range 3 {
		p.tell('m')
		p.await("done")
	}
	p.tell('q')
	p.wait()
	r := rec.ended("").quiet()
	l := r.leaks()
	if want := (analyze.Amount{Bytes: 3 * 77, Blocks: 3}); l.Total != want {
		t.Errorf("leaks %+v, want %+v", l.Total, want)
	}
	if text := r.text(l); !strings.Contains(text, "serve") || !strings.Contains(text, "main") {
		t.Errorf("no names:\n%s", text)
	}
}
