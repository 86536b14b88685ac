package unwind

import (
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// keptRecording reads a recording of testdata and the program that it is of.
func keptRecording(t *testing.T, name string, u *Unwinder) (*recording, recordedSpace) {
	t.Helper()
	file, err := os.Open("testdata/" + name + ".json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := &recording{}
	unzipped, err := gzip.NewReader(file)
	if err == nil {
		err = json.NewDecoder(unzipped).Decode(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	prog, err := os.Open("testdata/" + name + ".elf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	m := u.Load(prog, prog.Name())
	f, err := elf.NewFile(prog)
	if err != nil {
		t.Fatal(err)
	}
	var space recordedSpace
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			space = append(space, Mapping{p.Vaddr, p.Vaddr + p.Filesz, p.Off, m})
		}
	}
	return r, space
}

func (s *stopped) snapshotARM64() *Snapshot {
	g := s.Regs
	return &Snapshot{
		Arch: ARM64, PC: g["pc"], SP: g["sp"], FP: g["x29"], LR: g["x30"],
		Regs:  []uint64{g["x19"], g["x20"], g["x21"], g["x22"], g["x23"], g["x24"], g["x25"], g["x26"], g["x27"], g["x28"]},
		Stack: s.Stack,
	}
}

// TestARM64 unwinds what testdata/arm64.c recorded: 41 instructions one by one
// from leaf into the epilogues of its callers, with signed return addresses, and
// from leaf's entry by frame pointers alone. The truth is what the program calls: QEMU
// does not tell gdb how return addresses are signed, which stops it.
func TestARM64(t *testing.T) {
	const begin = "leaf large variable recurse recurse recurse recurse recurse recurse recurse " +
		"recurse recurse recurse recurse recurse recurse handler restorer "
	for _, c := range []struct {
		name   string
		method Method
		want   string
	}{
		{"arm64", CFI, begin + "interrupted begin _start"},
		// Nothing but a stack pointer leads to what was interrupted.
		{"arm64fp", FramePointer, begin + "begin _start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := strings.Fields(c.want)
			u := New(Options{})
			r, space := keptRecording(t, c.name, u)
			prog := "testdata/" + c.name + ".elf"
			for i := range r.Stops {
				snap := r.Stops[i].snapshotARM64()
				if i == 0 {
					snap.Point = Entry
				}
				frames, end := u.Unwind(space, snap, nil)
				names := progNames(t, prog, prog, space, frames)
				at := slices.Index(all, names[0])
				if at < 0 {
					t.Fatalf("stop %d: in %s", i, names[0])
				}
				if want := all[len(all)-len(names):]; end != Complete || !slices.Equal(names, want) || len(names) > len(all)-at {
					t.Errorf("stop %d: ended: %v, after %v", i, end, names)
				}
				if i == 0 && frames[3].Method != c.method {
					t.Errorf("found by %d, want %d", frames[3].Method, c.method)
				}
			}
		})
	}
}
