package probe

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// TestRecycles finds the calls by which glibc hands the blocks of an ended
// thread back: in libc by their form, in a static program by name. They are
// outside of all functions that are probed.
func TestRecycles(t *testing.T) {
	files := []string{kerneltest.Build(t, "testdata/family.c", "-static")}
	for _, libc := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"} {
		if real, err := filepath.EvalSymlinks(libc); err == nil {
			files = append(files, real)
			break
		}
	}
	for _, file := range files {
		o, err := ReadObject(file, file, file == files[0])
		if err != nil {
			t.Fatal(err)
		}
		sites := 0
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range o.Functions {
			if !f.Recycles {
				continue
			}
			sites++
			if f.HasReturn() || f.Cookie()&CookieRecycles == 0 || code[f.Entry.Offset] != 0xe8 {
				t.Errorf("%s: %+v is no call of free", file, f)
			}
		}
		if sites == 0 || sites > maxRecycles {
			t.Errorf("%s: %d calls found", file, sites)
		}
	}
}
