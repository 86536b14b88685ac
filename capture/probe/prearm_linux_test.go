package probe

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// paths names the objects.
func paths(objects []Object) []string {
	var list []string
	for _, o := range objects {
		list = append(list, o.Path)
	}
	return list
}

func TestFindAllocators(t *testing.T) {
	exe := kerneltest.Build(t, "testdata/family.c")
	p := start(t, exe, "plain")
	found, err := FindAllocators(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || !strings.Contains(found[0].Path, "libc.so.6") {
		t.Fatalf("allocators of a plain program: %v, want libc alone", paths(found))
	}
	later, err := Prearm(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range later {
		if o.key == found[0].key {
			t.Errorf("Prearm repeats %s", o.Path)
		}
	}
}

func TestFindStaticAllocator(t *testing.T) {
	exe := kerneltest.Build(t, "testdata/family.c", "-static")
	p := start(t, exe, "plain")
	found, err := FindAllocators(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Path != exe {
		t.Fatalf("allocators of a static program: %v, want %s", paths(found), exe)
	}
}

// TestPrearmFollowsTheLoader gives a library an unusual name and place, and
// checks that it is found before the program maps it.
func TestPrearmFollowsTheLoader(t *testing.T) {
	jemalloc, err := filepath.Glob("/usr/lib/*/libjemalloc.so.2")
	if err != nil || len(jemalloc) == 0 {
		kerneltest.Skip(t, "libjemalloc2 is not installed")
	}
	lib, err := os.ReadFile(jemalloc[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"libodd.so", "libfirst.so"} {
		if err := os.WriteFile(filepath.Join(dir, name), lib, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// An absolute link, which must be resolved in the process's root.
	if err := os.Symlink(filepath.Join(dir, "libodd.so"), filepath.Join(dir, "liblink.so")); err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{
		"LD_PRELOAD=liblink.so libfirst.so\x00LD_LIBRARY_PATH=/nowhere:" + dir + "\x00",
		"LD_PRELOAD=" + dir + "/libodd.so:" + dir + "/libfirst.so\x00",
	} {
		file := filepath.Join(t.TempDir(), "environ")
		if err := os.WriteFile(file, []byte(env), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &librarySearch{root: "/proc/self/root", seen: map[fileKey]bool{}}
		s.readEnviron(file)
		for _, name := range s.preload {
			s.find(name, nil)
		}
		got := paths(s.objects)
		for _, want := range []string{"libodd.so", "libfirst.so"} {
			if !slices.Contains(got, filepath.Join(dir, want)) {
				t.Errorf("with %q: found %v, not %s", env, got, want)
			}
		}
	}
}

// TestPrearmStopped looks at a process whose loader has not run: what it will
// need must be found from its ELF file.
func TestPrearmStopped(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, "testdata/family.c")
	cmd := exec.Command(exe, "plain")
	if err := startStopped(cmd); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	now, err := FindAllocators(cmd.Process.Pid)
	if err != nil || len(now) != 0 {
		t.Errorf("allocators before the loader ran: %v, %v", paths(now), err)
	}
	later, err := Prearm(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(paths(later), func(p string) bool { return strings.Contains(p, "libc.so.6") }) {
		t.Errorf("Prearm found %v, and not libc", paths(later))
	}
}

func TestResolveStaysInRoot(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"lib": "usr/lib", "abs": "/usr/lib", "up": "../../../../usr/lib", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/x.so"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &librarySearch{root: root}
	for _, dir := range []string{"/lib", "/abs", "/up", "/../../lib"} {
		if got, err := s.resolve(dir + "/x.so"); err != nil || got != "/usr/lib/x.so" {
			t.Errorf("resolve(%s/x.so) = %q, %v", dir, got, err)
		}
	}
	if got, err := s.resolve("/loop/x.so"); err == nil {
		t.Errorf("resolve followed a loop to %q", got)
	}
}
