package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// The program leaks 1000 bytes in 10 blocks, through a call that is inlined.
const symbolized = "testdata/symbolized.c"

func debugTool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// stripped builds the program, moves its debugging information to a file of
// another directory, and returns both.
func stripped(t *testing.T, flags ...string) (prog, debugDir string) {
	t.Helper()
	whole := kerneltest.Build(t, symbolized, append([]string{"-fno-omit-frame-pointer", "-Wl,--build-id"}, flags...)...)
	prog, debugDir = filepath.Join(t.TempDir(), "prog"), t.TempDir()
	debugTool(t, "cp", whole, prog) // other tests may use what was built
	debugTool(t, "objcopy", "--only-keep-debug", prog, filepath.Join(debugDir, filepath.Base(prog)+".debug"))
	debugTool(t, "strip", prog)
	return prog, debugDir
}

func mustTcap(t *testing.T, args ...string) outcome {
	t.Helper()
	o := tcap(t, args...)
	if o.code != exitOK {
		t.Fatalf("tcap %q: exit %d: %s", args, o.code, o.stderr)
	}
	return o
}

// eventBlocks are the bytes of a capture's blocks of events.
func eventBlocks(t *testing.T, path string) [][]byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var blocks [][]byte
	for _, b := range r.Blocks() {
		if b.Type == format.BlockEvents {
			blocks = append(blocks, file[b.Offset:b.End()])
		}
	}
	return blocks
}

// progModule is what info says of the program.
func progModule(t *testing.T, path, prog string) modSum {
	t.Helper()
	var s summary
	if err := json.Unmarshal([]byte(mustTcap(t, "info", "--format", "json", path).stdout), &s); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Modules {
		if m.Path == prog {
			return m
		}
	}
	t.Fatalf("info has no module %s", prog)
	return modSum{}
}

// TestSymbolizeLater records a stripped program whose debug file is elsewhere,
// and names its frames when the program is gone; another build's file is refused.
func TestSymbolizeLater(t *testing.T) {
	kerneltest.Require(t)
	for _, flags := range [][]string{{"-pie", "-fPIE"}, {"-no-pie"}, {"-pie", "-fPIE", "-Wl,-z,separate-code,-Ttext-segment=0x10000000"}} {
		prog, debugDir := stripped(t, flags...)
		path := filepath.Join(t.TempDir(), "run.tcap")
		mustTcap(t, "record", "-q", "-e", "heap", "-o", path, "--", prog)
		if err := os.Remove(prog); err != nil {
			t.Fatal(err)
		}
		if m := progModule(t, path, prog); m.Frames == 0 || m.Named != 0 || !strings.HasSuffix(m.DebugFile, ".debug") {
			t.Fatalf("%v: before: %+v", flags, m)
		}
		other := t.TempDir()
		debugTool(t, "cp", kerneltest.Build(t, symbolized, "-O2"), filepath.Join(other, filepath.Base(prog)))
		o := tcap(t, "symbolize", path, "--debug-dir", other)
		if o.code != exitFailed || !strings.Contains(o.stderr, "refused") || !strings.Contains(o.stderr, "other builds") {
			t.Errorf("%v: another build: exit %d, %s", flags, o.code, o.stderr)
		}
		named := filepath.Join(filepath.Dir(path), "named.tcap")
		mustTcap(t, "symbolize", path, "--debug-dir", other, "--debug-dir", debugDir, "-o", named)
		if o := tcap(t, "symbolize", path, "--debug-dir", debugDir, "-o", named); o.code != exitFailed || !strings.Contains(o.stderr, "--force") {
			t.Errorf("overwrites: exit %d, %s", o.code, o.stderr)
		}
		checkNamed(t, path, named, prog)
		mustTcap(t, "symbolize", path, "--debug-dir", debugDir)
		if a, b := fileSum(t, path), fileSum(t, named); !bytes.Equal(a, b) {
			t.Errorf("%v: replacing the file gives another than -o", flags)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
	}
}

func fileSum(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkNamed compares a capture with what symbolize made of it.
func checkNamed(t *testing.T, path, named, prog string) {
	t.Helper()
	// _start, which is of the C library's, has no lines.
	if m := progModule(t, named, prog); m.Frames < 2 || m.Named != m.Frames || m.Lined != m.Frames-1 {
		t.Errorf("after: %+v", m)
	}
	before, after := eventBlocks(t, path), eventBlocks(t, named)
	if len(before) == 0 || len(before) != len(after) {
		t.Fatalf("%d blocks of events, were %d", len(after), len(before))
	}
	for i := range before {
		if !bytes.Equal(before[i], after[i]) {
			t.Errorf("block %d of events changed", i)
		}
	}
	mustTcap(t, "verify", named)
	got := mustTcap(t, "analyze", "leaks", named).stdout
	for _, want := range []string{"1,000 bytes in 10 blocks\n", "    inner   ", "symbolized.c:7\n", "    leak_here  ", "symbolized.c:11\n", "    main  ", "symbolized.c:20\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, filepath.Base(prog)+"+0x") {
		t.Errorf("a frame has no name:\n%s", got)
	}
}

// TestRecordDebugDir names a stripped program's frames while recording.
func TestRecordDebugDir(t *testing.T) {
	kerneltest.Require(t)
	prog, debugDir := stripped(t)
	id := progBuildID(t, prog)
	byID := filepath.Join(debugDir, ".build-id", id[:2])
	if err := os.MkdirAll(byID, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(debugDir, filepath.Base(prog)+".debug"), filepath.Join(byID, id[2:]+".debug")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run.tcap")
	mustTcap(t, "record", "-q", "-e", "heap", "-o", path, "--debug-dir", debugDir, "--", prog)
	// All but _start, which is of the C library's and has no lines.
	if m := progModule(t, path, prog); m.Frames < 2 || m.Lined != m.Frames-1 {
		t.Errorf("%+v", m)
	}
}

func progBuildID(t *testing.T, prog string) string {
	t.Helper()
	out, err := exec.Command("readelf", "-n", prog).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, id, ok := strings.Cut(string(out), "Build ID: ")
	if !ok {
		t.Fatalf("readelf finds no build-id in\n%s", out)
	}
	return strings.TrimSpace(strings.Split(id, "\n")[0])
}

// TestElsewhere opens a capture where there is nothing but itself and a tcap
// for another architecture, and wants the reports that it gives here.
func TestElsewhere(t *testing.T) {
	kerneltest.Require(t)
	const emulator = "/usr/bin/qemu-aarch64-static"
	if _, err := os.Stat(emulator); err != nil {
		kerneltest.Skip(t, "no qemu-user-static")
	}
	prog := kerneltest.Build(t, symbolized, "-fno-omit-frame-pointer")
	room := t.TempDir()
	path := filepath.Join(room, "run.tcap")
	mustTcap(t, "record", "-q", "-e", "heap", "-o", path, "--", prog)
	build := exec.Command("go", "build", "-o", filepath.Join(room, "tcap"), ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build for arm64: %v\n%s", err, out)
	}
	debugTool(t, "cp", emulator, room)
	for _, args := range [][]string{
		{"analyze", "leaks"}, {"analyze", "heap", "--format", "json"}, {"verify"},
	} {
		want := mustTcap(t, append(args, path)...).stdout
		cmd := exec.Command("/qemu-aarch64-static", append(append([]string{"/tcap"}, args...), "/run.tcap")...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: room}
		cmd.Dir = "/"
		o := finish(t, cmd)
		if o.code != exitOK || o.stdout != want {
			t.Errorf("%q on arm64: exit %d, %s\n%s\nhere:\n%s", args, o.code, o.stderr, o.stdout, want)
		}
		if args[0] == "analyze" && !strings.Contains(want, "leak_here") {
			t.Errorf("%q says nothing:\n%s", args, want)
		}
	}
}
