package symbol

import (
	"debug/elf"
	"errors"
	"slices"
)

// goInlined is what a Go program tells of calls that were inlined: for each
// function a tree of them (runtime/symtabinl.go; funcdata InlTree), and for each
// address the innermost (pcdata InlTreeIndex). What is read here is that of Go 1.20
// and later.
type goInlined struct {
	at   uint64 // address of go:func.*, from where functions count to what is told of them; 0 if not known
	data []byte // what is there, as far as its section goes
}

// maxInlined bounds how deep calls may be inlined in each other. The compiler, which
// has a budget for a function's size, stops long before.
const maxInlined = 64

// readModuleData looks for runtime.firstmoduledata, which has no symbol in a stripped
// program, but begins with addresses that are known. It tells where the program's text
// and go:func.* are. It is not found in a position-independent program whose linker left
// the addresses out of the file, for the dynamic linker to fill in; GNU ld does not.
func (t *goTable) readModuleData(f *elf.File, limit int64) error {
	if !t.trees || t.count == 0 {
		return nil
	}
	var errs []error
	for _, name := range []string{".go.module", ".noptrdata"} { // the first since Go 1.26
		data, err := sectionData(f, name, limit)
		if err != nil {
			errs = append(errs, err)
		}
		if t.findModuleData(data) {
			return nil
		}
	}
	return errors.Join(errs...)
}

func (t *goTable) findModuleData(data []byte) bool {
	const header, names, first, end, text, inlined, words = 0, 1, 20, 21, 22, 40, 41
	size := t.pointer
	from, to := t.entry(0)-t.text, t.entry(t.count)-t.text
	for ; len(data) >= words*size; data = data[size:] {
		word := func(i int) uint64 { return t.uint(data[i*size:], size) }
		if word(header) == t.addr && word(names) == t.addr+t.namesAt && word(first)-word(text) == from && word(end)-word(text) == to {
			t.text, t.inlined.at = word(text), word(inlined)
			return true
		}
	}
	return false
}

// readInlined keeps what is told of inlined calls: a part of .gopclntab since Go 1.26,
// of .rodata before. Without it, frames have the functions that hold the code.
func (t *goTable) readInlined(f *elf.File, limit int64) error {
	if t == nil || t.inlined.at == 0 {
		return nil
	}
	addr := t.inlined.at
	if at := addr - t.addr; at < uint64(len(t.all)) {
		t.inlined.data = t.all[at:]
		return nil
	}
	in := slices.IndexFunc(f.Sections, func(s *elf.Section) bool {
		return s.Type == elf.SHT_PROGBITS && s.Flags&elf.SHF_ALLOC != 0 && addr-s.Addr < s.Size
	})
	if in < 0 {
		return nil
	}
	s := f.Sections[in]
	data, err := readSection(s, limit)
	if err != nil {
		return err
	}
	if at := addr - s.Addr; at < uint64(len(data)) {
		t.inlined.data = data[at:]
		t.size += int64(len(data))
	}
	return nil
}

// tree returns a function's tree, nil if it has none, and the offset of its table of
// indexes into that.
func (g *goInlined) tree(t *goTable, fn []byte) (tree []byte, indexes uint64) {
	const pcCountAt, countAt, listsAt = 28, 43, 44 // in _func
	const indexTable, treeData = 2, 3              // abi.PCDATA_InlTreeIndex, abi.FUNCDATA_InlTree
	pcCount := t.uint(fn[pcCountAt:], 4)
	if pcCount <= indexTable || fn[countAt] <= treeData {
		return nil, 0
	}
	at := listsAt + 4*(pcCount+treeData)
	if at+4 > uint64(len(fn)) {
		return nil, 0
	}
	off := t.uint(fn[at:], 4)
	if off >= uint64(len(g.data)) { // as ^0, which stands for none
		return nil, 0
	}
	return g.data[off:], t.uint(fn[listsAt+4*indexTable:], 4)
}

// frames returns the calls that are inlined at addr in a function, the innermost first,
// and the address in it whose line is that of the outermost of these calls; addr if
// there are none.
func (g *goInlined) frames(t *goTable, fn []byte, start, addr uint64) ([]Frame, uint64) {
	if g.data == nil {
		return nil, addr
	}
	tree, indexes := g.tree(t, fn)
	var list []Frame
	for tree != nil && len(list) < maxInlined {
		index, ok := t.value(indexes, start, addr)
		const entry, nameAt, parentAt = 16, 4, 8 // runtime.inlinedCall
		if !ok || index < 0 || (uint64(index)+1)*entry > uint64(len(tree)) {
			break
		}
		call := tree[uint64(index)*entry:]
		frame := Frame{Function: tableString(t.names, t.uint(call[nameAt:], 4)), Inlined: true}
		frame.File, frame.Line = t.line(fn, start, addr)
		list = append(list, frame)
		addr = start + t.uint(call[parentAt:], 4)
	}
	return list, addr
}
