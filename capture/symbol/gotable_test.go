package symbol

import (
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"path/filepath"
	"slices"
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
			frames := got.lookup(addr, 0)
			if len(frames) != 1 {
				t.Fatalf("%#x: %+v", addr, frames)
			}
			frame := frames[0]
			// debug/gosym says -1 where there is no line, as in padding.
			if frame.Function != fn.Name || frame.File != file || frame.Line != max(line, 0) || frame.Offset != addr-fn.Entry {
				t.Fatalf("%#x: got %+v, want %s %s:%d", addr, frame, fn.Name, file, line)
			}
		}
	}
	last := want.Funcs[len(want.Funcs)-1]
	if frames := got.lookup(last.End+1<<20, 0); frames != nil {
		t.Errorf("far behind the last function: %+v", frames)
	}
}

func FuzzGoTable(f *testing.F) {
	// One function of 16 bytes with one line in one file, and in its second half a call
	// that is inlined in one that is inlined.
	table := make([]byte, 0, 256)
	le := binary.LittleEndian
	table = le.AppendUint32(table, goMagic120)
	table = append(table, 0, 0, 1, 8)
	for _, word := range []uint64{1, 1, 0, 72, 88, 92, 100, 116} {
		table = le.AppendUint64(table, word)
	}
	table = append(table, "main.f\x00main.g\x00h\x00"...)     // names at 72
	table = le.AppendUint32(table, 0)                         // units at 88
	table = append(table, "/a/b.go\x00"...)                   // files at 92
	table = append(table, 0, 2, 16, 0, 20, 8, 2, 8, 0)        // values at 100: file at 1, line at 4
	table = append(table, 0, 4, 2, 4, 2, 8, 0)                // at 9: the innermost call, none but 0 from 4, 1 from 8
	for _, word := range []uint32{0, 12, 16, 0, 0, 0, 0, 0} { // functions at 116
		table = le.AppendUint32(table, word)
	}
	for _, word := range []uint32{1, 4, 3, 0, 0, 0 | 4<<24, 0, 0, 9, ^uint32(0), ^uint32(0), ^uint32(0), 0} {
		table = le.AppendUint32(table, word)
	}
	calls := len(table)
	for _, word := range []uint32{0, 7, 1, 0, 0, 14, 5, 0} {
		table = le.AppendUint32(table, word)
	}
	if t, err := newGoTable(table, le, 0x1000); err != nil {
		f.Fatal(err)
	} else {
		t.inlined.data = table[calls:]
		if got, want := t.lookup(0x1003, 1), []Frame{{"main.f", "/a/b.go", 9, 4, false}}; !slices.Equal(got, want) {
			f.Fatalf("the seed gives %+v, want %+v", got, want)
		}
		want := []Frame{{"h", "/a/b.go", 10, 9, true}, {"main.g", "/a/b.go", 9, 9, true}, {"main.f", "/a/b.go", 9, 9, false}}
		if got := t.lookup(0x1008, 1); !slices.Equal(got, want) {
			f.Fatalf("the seed gives %+v, want %+v", got, want)
		}
		binary.LittleEndian.PutUint32(t.inlined.data[16+8:], 8) // it calls itself
		if got := t.lookup(0x1008, 1); len(got) != maxInlined+1 {
			f.Fatalf("the calls go round: %d frames", len(got))
		}
		binary.LittleEndian.PutUint32(t.inlined.data[16+8:], 5)
	}
	f.Add(table, uint64(3), uint16(calls))
	f.Add(table, uint64(9), uint16(calls))
	f.Fuzz(func(t *testing.T, data []byte, addr uint64, calls uint16) {
		table, err := newGoTable(data, binary.LittleEndian, 0x1000)
		if err != nil {
			return
		}
		if table.trees {
			table.inlined.data = data[min(int(calls), len(data)):]
		}
		if table.count > 0 {
			table.findModuleData(data)
		}
		frames := table.lookup(0x1000+addr, 0)
		if len(frames) > maxInlined+1 {
			t.Errorf("%d frames", len(frames))
		}
		for i, frame := range frames {
			if len(frame.Function) > maxNameBytes || len(frame.File) > maxNameBytes || frame.Line < 0 || frame.Inlined != (i < len(frames)-1) {
				t.Errorf("got %+v", frames)
			}
		}
	})
}
