package capture

import (
	"slices"
	"testing"
)

// TestBelievable: a walk that read data for return addresses ends where that
// is certain; code that lies in no file, as a program's own, may call malloc.
func TestBelievable(t *testing.T) {
	s := &space{mappings: []mapping{{start: 0x1000, end: 0x3000, module: &module{}}}}
	for _, c := range []struct {
		name  string
		walk  []uint64
		stack []uint64
	}{
		{"none", nil, nil},
		{"all in files", []uint64{0x1010, 0x2fff}, []uint64{0x1010, 0x2fff}},
		{"a canary on top", []uint64{0x1010, 0xf21ad99a6bf26a83}, []uint64{0x1010}},
		{"data between", []uint64{0x1010, 0x3000, 0x1020}, []uint64{0x1010}},
		{"the caller in no file", []uint64{0x7000, 0x1010, 0x14}, []uint64{0x7000, 0x1010}},
	} {
		if got := s.believable(c.walk); !slices.Equal(got, c.stack) {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.stack)
		}
	}
}
