// Package kerneltest is what every test shares that needs a real kernel: the
// permission check with one policy for skipping, and the compiler for the
// small C programs whose behaviour the test knows.
//
// A kernel test that silently skips proves nothing, so the machine that is
// meant to run them (CI, the virtual machine) sets TCAP_KERNEL_TESTS=1, which
// turns every skip of this package into a failure. Where only the rest is to be
// tested, TCAP_KERNEL_TESTS=0 makes root skip them, too.
package kerneltest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
)

const (
	// EnvRequired set to 1 makes Require and Build fail where they would skip; set
	// to 0 it makes Require skip.
	EnvRequired = "TCAP_KERNEL_TESTS"

	// EnvPrograms names a directory where Build keeps compiled programs. A
	// program found there is not compiled again, so tests can run on a
	// machine without a compiler: run them once elsewhere with the variable
	// set and bring the directory (and the sources) along.
	EnvPrograms = "TCAP_TEST_PROGRAMS"
)

// Require skips the test unless it may load BPF programs: it runs as root and
// the kernel accepts a program. With TCAP_KERNEL_TESTS=1 it fails instead.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv(EnvRequired) == "0" {
		t.Skipf("%s=0", EnvRequired)
	}
	if err := usable(); err != nil {
		Skip(t, err.Error())
	}
}

// Skip ends the test because the machine lacks something. With
// TCAP_KERNEL_TESTS=1 it fails instead.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv(EnvRequired) == "1" {
		t.Fatalf("%s=1, but %s", EnvRequired, reason)
	}
	t.Skipf("%s (set %s=1 to make this a failure)", reason, EnvRequired)
}

// usable reports why BPF programs cannot be loaded, once per process.
var usable = sync.OnceValue(func() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("kernel tests need root, this is uid %d", uid)
	}
	// Without CAP_SYS_RESOURCE this fails, which matters only before 5.11:
	// later kernels charge BPF memory to the cgroup. Loading will tell.
	_ = rlimit.RemoveMemlock()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SocketFilter,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:      "GPL",
	})
	if err != nil {
		return fmt.Errorf("the kernel refuses BPF programs: %w", err)
	}
	return prog.Close()
})

// Build compiles the C source (a path relative to the test's directory, as
// "testdata/forks.c") with gcc -O1 -g -pthread and the given extra flags, and
// returns the absolute path of the executable. Flags come after the source,
// so that they may name libraries. The directory is removed with the test
// unless TCAP_TEST_PROGRAMS names one.
func Build(t testing.TB, src string, flags ...string) string {
	t.Helper()
	text, err := os.ReadFile(src)
	if err != nil {
		t.Fatalf("read test program: %v", err)
	}
	sum := sha256.Sum256([]byte(string(text) + "\x00" + strings.Join(flags, "\x00")))
	name := strings.TrimSuffix(filepath.Base(src), filepath.Ext(src)) + "-" + hex.EncodeToString(sum[:6])

	dir := os.Getenv(EnvPrograms)
	if dir == "" {
		dir = t.TempDir()
	}
	exe := filepath.Join(dir, name)
	if _, err := os.Stat(exe); err == nil {
		return exe
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		Skip(t, "gcc is not installed, which compiles "+src)
	}
	// Tests of several packages share the directory, so the name appears
	// only once the program is complete.
	part := fmt.Sprintf("%s.%d", exe, os.Getpid())
	args := append([]string{"-O1", "-g", "-pthread", "-o", part, src}, flags...)
	if out, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if err := os.Rename(part, exe); err != nil {
		t.Fatalf("install test program: %v", err)
	}
	return exe
}
