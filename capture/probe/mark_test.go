package probe

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// sdtNote is a note of a mark.
func sdtNote(pc, base, semaphore uint64, texts ...string) []byte {
	desc := binary.LittleEndian.AppendUint64(nil, pc)
	desc = binary.LittleEndian.AppendUint64(desc, base)
	desc = binary.LittleEndian.AppendUint64(desc, semaphore)
	for _, s := range texts {
		desc = append(append(desc, s...), 0)
	}
	b := binary.LittleEndian.AppendUint32(nil, 8)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, ntStapSDT)
	b = append(append(b, "stapsdt\x00"...), desc...)
	return append(b, make([]byte, -len(b)&3)...)
}

func marksELF(t testing.TB) *ELF {
	t.Helper()
	image := testELF{dynsym: []testSymbol{{name: "f", off: 0, size: 2}}}.bytes()
	e, err := NewELF(bytes.NewReader(image), int64(len(image)), "/nowhere/marks")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Notes are moved by as much as .stapsdt.base was, and one whose place is in no
// code is left out.
func TestMarkNotes(t *testing.T) {
	notes := bytes.Join([][]byte{
		sdtNote(testCodeAddr+0x10, 0x5000, 0, "demo", "one", "-4@%eax 8@16(%rbp)"),
		sdtNote(testCodeAddr-0x70, 0x4f80, testCodeAddr-0x60, "demo", "moved", ""),
		sdtNote(1, 0x5000, 0, "demo", "nowhere", ""),
		sdtNote(testCodeAddr, 0x5000, 0, "other", "two", ""),
	}, nil)
	list, ok := marksELF(t).notes(notes, 0x5000, func(m *Mark) bool { return m.Provider == "demo" })
	want := []Mark{
		{Provider: "demo", Name: "one", Offset: testCodeOffset + 0x10, Args: "-4@%eax 8@16(%rbp)"},
		{Provider: "demo", Name: "moved", Offset: testCodeOffset + 0x10, Semaphore: testCodeOffset + 0x20},
	}
	if !ok || len(list) != 2 || list[0] != want[0] || list[1] != want[1] {
		t.Errorf("got %+v, %v, want %+v", list, ok, want)
	}
	if list, ok := marksELF(t).notes(notes[:len(notes)-9], 0x5000, func(*Mark) bool { return true }); ok || len(list) != 2 {
		t.Errorf("cut: %+v, %v", list, ok)
	}
}

// FuzzMarks checks what can be said of any notes: a mark is in the file's code, its
// names are texts, and there is one note for each.
func FuzzMarks(f *testing.F) {
	f.Add(sdtNote(testCodeAddr+1, 0, testCodeAddr+8, "demo", "work", "8@%rdi -4@$5"), uint64(0))
	f.Add(sdtNote(testCodeAddr+1, 0x100, 0, "p", "n", "8@-8(%rbp,%rax,4)"), uint64(0x200))
	f.Add(append(sdtNote(0, 0, 0, "a", "b"), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 3, 0, 0, 0), uint64(1))
	e := marksELF(f)
	f.Fuzz(func(t *testing.T, data []byte, base uint64) {
		list, _ := e.notes(data, base, func(*Mark) bool { return true })
		if len(list)*12 > len(data) {
			t.Errorf("%d marks of %d bytes", len(list), len(data))
		}
		for _, m := range list {
			if m.Offset < testCodeOffset || strings.ContainsRune(m.Provider+m.Name, 0) {
				t.Errorf("mark %+v", m)
			}
			var out bytes.Buffer
			if err := m.WriteText(&out, "x"); err != nil || bytes.ContainsAny(out.Bytes(), "\x1b\x07") {
				t.Errorf("%q, %v", out.Bytes(), err)
			}
		}
	})
}
