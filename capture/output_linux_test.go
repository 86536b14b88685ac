package capture

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOverwrite: --force puts a new file in the place of the old one, when the recording
// begins. Nothing is written to what another name leads to, or another user can read.
func TestOverwrite(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "run.tcap"), filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("precious"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(other, path); err != nil {
		t.Fatal(err)
	}
	spy, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer spy.Close()
	if _, err := create(path, false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("without --force: %v", err)
	}
	holds := func(name, want string) {
		t.Helper()
		if b, err := os.ReadFile(name); err != nil || string(b) != want {
			t.Errorf("%s holds %q, want %q (%v)", name, b, want, err)
		}
	}
	files := func(want int) {
		t.Helper()
		if list, err := os.ReadDir(dir); err != nil || len(list) != want {
			t.Errorf("%d files, want %d: %v (%v)", len(list), want, list, err)
		}
	}

	o, err := create(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := create(path, true); err == nil || !strings.Contains(err.Error(), "another tcap") {
		t.Errorf("a second recorder: %v", err)
	}
	o.discard()
	holds(path, "precious")
	files(2)

	if o, err = create(path, true); err != nil {
		t.Fatal(err)
	}
	holds(path, "precious")
	if err := o.begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Write([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := create(path, true); err == nil || !strings.Contains(err.Error(), "another tcap") {
		t.Errorf("a second recorder, of one that has begun: %v", err)
	}
	if err := o.finish(); err != nil {
		t.Fatal(err)
	}
	holds(path, "secret")
	holds(other, "precious")
	files(2)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&0o777 != 0o600 || st.Nlink != 1 {
		t.Errorf("mode %o, %d names (%v)", st.Mode, st.Nlink, err)
	}
	if b := make([]byte, 16); true {
		if n, _ := spy.Read(b); string(b[:n]) != "precious" {
			t.Errorf("who had the old file open reads %q", b[:n])
		}
	}
}

// TestOverwriteLink: a link is not followed, be it to a file or to nothing.
func TestOverwriteLink(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "run.tcap"), filepath.Join(dir, "target")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for _, there := range []bool{false, true} {
		if there {
			if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, force := range []bool{false, true} {
			if o, err := create(link, force); err == nil || o != nil {
				t.Errorf("there %v, force %v: it was followed", there, force)
			}
		}
	}
	if b, err := os.ReadFile(target); err != nil || string(b) != "precious" {
		t.Errorf("the target holds %q (%v)", b, err)
	}
}
