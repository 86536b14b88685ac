package probe

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"path"
	"strings"
)

// A Mark is a place that a program's author has marked for tools (USDT): an
// instruction that does nothing, and a note about it.
type Mark struct {
	Provider  string
	Name      string
	Offset    uint64 // file offset in bytes of the instruction
	Semaphore uint64 // file offset of the counter of who watches; 0: there is none
	Args      string // where the arguments are, as in the note: "-4@%eax 8@16(%rbp)"
}

// maxMarks bounds the marks of a file, and the bytes of their notes.
const (
	maxMarks     = 1 << 16
	maxMarkNotes = 16 << 20
	ntStapSDT    = 3 // NT_STAPSDT
)

// Marks returns the marks that match patterns of path.Match, as they come in the
// note section .note.stapsdt
// (https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation).
func (e *ELF) Marks(provider, name string) ([]Mark, error) {
	s := e.file.Section(".note.stapsdt")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	data, err := e.read(s.Offset, s.FileSize, maxMarkNotes)
	if err != nil {
		return nil, fmt.Errorf("read the marks of %s: %w", e.path, err)
	}
	var base uint64 // as it is now; prelink moves code without telling the notes
	if b := e.file.Section(".stapsdt.base"); b != nil {
		base = b.Addr
	}
	list, ok := e.notes(data, base, func(m *Mark) bool { return match1(provider, m.Provider) && match1(name, m.Name) })
	if !ok {
		return list, fmt.Errorf("read the marks of %s: .note.stapsdt is damaged", e.path)
	}
	return list, nil
}

// notes reads a section of notes. It reports false where they are damaged, with those
// before.
func (e *ELF) notes(data []byte, base uint64, wanted func(*Mark) bool) (list []Mark, ok bool) {
	pad := func(n uint64) uint64 { return (n + 3) &^ 3 }
	for len(data) >= 12 && len(list) < maxMarks {
		order := e.file.ByteOrder
		nameLen, descLen, kind := uint64(order.Uint32(data)), uint64(order.Uint32(data[4:])), order.Uint32(data[8:])
		at := pad(12 + nameLen)
		if at+descLen > uint64(len(data)) || nameLen > uint64(len(data)) || descLen > uint64(len(data)) {
			return list, false
		}
		if desc := data[at : at+descLen]; kind == ntStapSDT && string(data[12:12+nameLen]) == "stapsdt\x00" {
			if m, ok := e.mark(desc, base); ok && wanted(&m) {
				list = append(list, m)
			}
		}
		data = data[min(pad(at+descLen), uint64(len(data))):]
	}
	return list, true
}

func match1(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

// mark reads a note: addresses of the instruction, of .stapsdt.base as it was
// when the note was made, and of the semaphore; then three texts.
func (e *ELF) mark(desc []byte, base uint64) (Mark, bool) {
	if len(desc) < 24 {
		return Mark{}, false
	}
	order := e.file.ByteOrder
	pc, noted, semaphore := order.Uint64(desc), order.Uint64(desc[8:]), order.Uint64(desc[16:])
	var texts []string
	for rest := desc[24:]; len(texts) < 3; {
		end := bytes.IndexByte(rest, 0)
		if end < 0 || end > maxName {
			return Mark{}, false
		}
		texts = append(texts, string(rest[:end]))
		rest = rest[end+1:]
	}
	if base != 0 {
		pc += base - noted
		if semaphore != 0 {
			semaphore += base - noted
		}
	}
	off, ok := e.Offset(pc)
	if !ok {
		return Mark{}, false
	}
	m := Mark{Provider: texts[0], Name: texts[1], Offset: off, Args: strings.TrimSpace(texts[2])}
	if semaphore != 0 {
		if m.Semaphore, ok = e.dataOffset(semaphore); !ok {
			return Mark{}, false
		}
	}
	return m, true
}

// dataOffset turns an address of the file's data into a file offset.
func (e *ELF) dataOffset(addr uint64) (uint64, bool) {
	for _, p := range e.file.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return p.Off + (addr - p.Vaddr), true
		}
	}
	return 0, false
}

// WriteText says where a mark is and what it has, for people.
func (m *Mark) WriteText(w io.Writer, path string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "mark %s:%s in %s\n", printable(m.Provider), printable(m.Name), printable(path))
	fmt.Fprintf(&b, "  %-12s file offset 0x%x\n", "probe at", m.Offset)
	if m.Semaphore != 0 {
		fmt.Fprintf(&b, "  %-12s file offset 0x%x, raised while the mark is recorded\n", "semaphore", m.Semaphore)
	}
	for i, arg := range strings.Fields(m.Args) {
		fmt.Fprintf(&b, "  %-12s %s\n", fmt.Sprintf("arg%d", i), printable(arg))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
