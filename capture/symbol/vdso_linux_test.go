package symbol

import (
	"errors"
	"strings"
	"testing"
)

// TestVDSO: this kernel's vdso has code, names, and a build-id by which a capture's
// is found; another kernel's is not taken for it.
func TestVDSO(t *testing.T) {
	f, err := VDSO()
	if err != nil {
		t.Fatal(err)
	}
	e, err := ReadELF(f)
	if err != nil {
		t.Fatal(err)
	}
	id := buildID(e)
	if _, _, ok := CodeSegment(f); !ok || id == nil {
		t.Fatalf("code %v, build-id %x", ok, id)
	}
	r := NewResolver(Options{DebugDirs: []string{}})
	defer r.Close()
	for range 2 { // the file stays open
		m, others, err := r.Find(VDSOName, hexID(id), func(off uint64) (uint64, bool) { return off, true })
		if err != nil || len(others) > 0 {
			t.Fatalf("%v, %v", others, err)
		}
		named := 0
		for _, s := range m.Symbols() {
			if !strings.Contains(s.Name, "clock_gettime") {
				continue
			}
			named++
			if got := m.Resolve(s.Addr+1, true); len(got) != 1 || !strings.Contains(got[0].Function, "clock_gettime") {
				t.Errorf("%s is %+v", s.Name, got)
			}
		}
		if named == 0 {
			t.Errorf("no clock_gettime among %+v", m.Symbols())
		}
		code, others, err := r.FindCode(VDSOName, hexID(id))
		if err != nil || len(others) > 0 {
			t.Fatalf("%v, %v", others, err)
		}
		code.Close()
	}
	id[0]++
	if _, others, err := r.FindCode(VDSOName, hexID(id)); !errors.Is(err, ErrNotFound) || len(others) > 0 {
		t.Errorf("another kernel's: %v, %v", others, err)
	}
	if _, others, err := r.Find(VDSOName, hexID(id), nil); !errors.Is(err, ErrNotFound) || len(others) > 0 {
		t.Errorf("another kernel's: %v, %v", others, err)
	}
}
