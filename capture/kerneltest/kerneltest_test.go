package kerneltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuild(t *testing.T) {
	src := filepath.Join(t.TempDir(), "hello world.c")
	const text = "#include <stdio.h>\nint main(void) { puts(WORD); return 0; }\n"
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv(EnvPrograms, dir)
	for _, word := range []string{"one", "two"} {
		exe := Build(t, src, `-DWORD="`+word+`"`)
		if filepath.Dir(exe) != dir {
			t.Errorf("built in %s, want %s", filepath.Dir(exe), dir)
		}
		out, err := exec.Command(exe).Output()
		if err != nil || strings.TrimSpace(string(out)) != word {
			t.Errorf("%s printed %q (%v), want %q", exe, out, err, word)
		}
	}
	first := Build(t, src, `-DWORD="one"`)
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(Build(t, src, `-DWORD="one"`))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the same source and flags were compiled twice")
	}
}

func TestRequireRuns(t *testing.T) {
	Require(t)
	if os.Geteuid() != 0 {
		t.Error("Require let a test without root go on")
	}
}

func TestRequireSkips(t *testing.T) {
	t.Setenv(EnvRequired, "0")
	gone := true
	t.Run("skipped", func(t *testing.T) {
		Require(t)
		gone = false
	})
	if !gone {
		t.Errorf("with %s=0 Require let a test go on", EnvRequired)
	}
}
