package capture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tcap-dev/tcap/format"
	"golang.org/x/sys/unix"
)

// TestModulesKeepRoom: a recording that sees more files than it may keep open
// leaves descriptors for the rest, and takes no file for another that had its
// inode before.
func TestModulesKeepRoom(t *testing.T) {
	w, err := format.NewWriter(new(bytes.Buffer), format.Header{}, format.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(format.Trailer{})
	ms := newModules()
	defer ms.close()
	ms.w, ms.room = w, 3
	dir := t.TempDir()
	names := map[format.ModuleID]bool{}
	for i := range 10 {
		path := filepath.Join(dir, fmt.Sprint("lib", i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		key := moduleKey{st.Dev, st.Ino}
		m := ms.openExec(1, key, path)
		names[m.id] = true
		if held := m.file != nil; held != (i < 3) {
			t.Errorf("file %d: held open: %v", i, held)
		}
		if os.Remove(path) != nil {
			t.Fatal("remove")
		}
	}
	if len(names) != 10 || ms.Unnamed != 7 {
		t.Errorf("%d modules of 10 files, %d without names", len(names), ms.Unnamed)
	}
}
