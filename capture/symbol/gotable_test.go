package symbol

import (
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"path/filepath"
	"testing"
)

// TestGoTableAgainstStandardLibrary compares every function of a program, at
// its start, middle and end, with debug/gosym.
func TestGoTableAgainstStandardLibrary(t *testing.T) {
	prog := filepath.Join(t.TempDir(), "prog")
	run(t, "testdata/lines", "go", "build", "-ldflags=-s -w", "-o", prog, "main.go")
	f, err := elf.Open(prog)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := f.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	want, err := gosym.NewTable(nil, gosym.NewLineTable(data, f.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	got, err := readGoTable(f, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Funcs) < 1000 || got.count != len(want.Funcs) {
		t.Fatalf("%d functions, debug/gosym finds %d", got.count, len(want.Funcs))
	}
	for _, fn := range want.Funcs {
		for _, addr := range []uint64{fn.Entry, (fn.Entry + fn.End) / 2, fn.End - 1} {
			file, line, _ := want.PCToLine(addr)
			frame, ok := got.lookup(addr, 0)
			// debug/gosym says -1 where there is no line, as in padding.
			if !ok || frame.Function != fn.Name || frame.File != file || frame.Line != max(line, 0) || frame.Offset != addr-fn.Entry {
				t.Fatalf("%#x: got %+v, want %s %s:%d", addr, frame, fn.Name, file, line)
			}
		}
	}
	last := want.Funcs[len(want.Funcs)-1]
	if frame, ok := got.lookup(last.End+1<<20, 0); ok {
		t.Errorf("far behind the last function: %+v", frame)
	}
}

func FuzzGoTable(f *testing.F) {
	// One function of 16 bytes with one line in one file.
	table := make([]byte, 0, 256)
	le := binary.LittleEndian
	table = le.AppendUint32(table, goMagic120)
	table = append(table, 0, 0, 1, 8)
	for _, word := range []uint64{1, 1, 0, 72, 80, 84, 92, 100} {
		table = le.AppendUint64(table, word)
	}
	table = append(table, "main.f\x00\x00"...)                                  // names at 72
	table = le.AppendUint32(table, 0)                                           // units at 80
	table = append(table, "/a/b.go\x00"...)                                     // files at 84
	table = append(table, 0, 2, 16, 0, 20, 16, 0, 0)                            // values at 92: file at 1, line at 4
	for _, word := range []uint32{0, 12, 16, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0} { // functions at 100
		table = le.AppendUint32(table, word)
	}
	if t, err := newGoTable(table, le, 0x1000); err != nil {
		f.Fatal(err)
	} else if frame, ok := t.lookup(0x1003, 1); !ok || frame != (Frame{"main.f", "/a/b.go", 9, 4, false}) {
		f.Fatalf("the seed gives %+v", frame)
	}
	f.Add(table, uint64(3))
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		table, err := newGoTable(data, binary.LittleEndian, 0x1000)
		if err != nil {
			return
		}
		frame, _ := table.lookup(0x1000+addr, 0)
		if len(frame.Function) > maxNameBytes || len(frame.File) > maxNameBytes || frame.Line < 0 {
			t.Errorf("got %+v", frame)
		}
	})
}
