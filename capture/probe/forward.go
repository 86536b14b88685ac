package probe

import (
	"debug/elf"

	"golang.org/x/arch/x86/x86asm"

	"github.com/tcap-dev/tcap/bpf"
)

// thinBytes is the size up to which a free that passes its block on to
// another free is taken to do nothing else. The fast path of a real free is
// longer (jemalloc 190 bytes, mimalloc 176, glibc 300).
const thinBytes = 128

// forwarding says whether a free passes blocks on to another probed free.
type forwarding int

const (
	never     forwarding = iota
	sometimes            // as gperftools' tc_free_sized does for large blocks
	always               // as jemalloc's operator delete: jmp free@plt
)

// frees finds out which free-like functions of one file call each other. A
// probe on both would count one call twice: unlike an allocation, a free has
// no return probe by which the inner call could be told.
type frees struct {
	e     *ELF
	addrs map[uint64]bool // addresses of functions that free
	slots map[uint64]bool // addresses of GOT slots that point to such
}

func newFrees(e *ELF, found []Symbol) *frees {
	f := &frees{e: e, addrs: map[uint64]bool{}, slots: map[uint64]bool{}}
	for _, s := range found {
		if isFree(s.Name) {
			f.addrs[s.Addr] = true
		}
	}
	if e.Machine() == elf.EM_X86_64 {
		f.readSlots(".rela.plt")
		f.readSlots(".rela.dyn")
	}
	return f
}

func isFree(name string) bool {
	row, ok := allocatorNames[name]
	return ok && row.shape == bpf.RawShapeOfFree
}

// readSlots collects the GOT slots that the loader fills with the address of
// a free (R_X86_64_GLOB_DAT is 6, R_X86_64_JUMP_SLOT 7). What cannot be read
// is treated as absent.
func (f *frees) readSlots(section string) {
	s, dyn := f.e.file.Section(section), f.e.file.SectionByType(elf.SHT_DYNSYM)
	if s == nil || dyn == nil || s.Type != elf.SHT_RELA || int64(dyn.Link) >= int64(len(f.e.file.Sections)) {
		return
	}
	order := f.e.file.ByteOrder
	relocs, err := f.e.read(s.Offset, s.FileSize, maxTable)
	if err != nil {
		return
	}
	names := f.e.file.Sections[dyn.Link]
	for ; len(relocs) >= 24; relocs = relocs[24:] {
		info := order.Uint64(relocs[8:])
		if kind := uint32(info); kind != uint32(elf.R_X86_64_GLOB_DAT) && kind != uint32(elf.R_X86_64_JMP_SLOT) {
			continue
		}
		at := info >> 32 * elf.Sym64Size
		if at+elf.Sym64Size > dyn.FileSize {
			continue
		}
		sym, err := f.e.read(dyn.Offset+at, elf.Sym64Size, elf.Sym64Size)
		if err != nil {
			continue
		}
		if isFree(f.e.cString(names.Offset+uint64(order.Uint32(sym)), maxAllocatorName)) {
			f.slots[order.Uint64(relocs)] = true
		}
	}
}

// forwards looks for a call or jump to another free in a function.
func (f *frees) forwards(s Symbol, code []byte) forwarding {
	if f.e.Machine() != elf.EM_X86_64 || len(code) > maxCode {
		return never
	}
	for off := 0; off < len(code); {
		inst, err := decode(code[off:])
		if err != nil {
			return never
		}
		next := s.Addr + uint64(off+inst.Len)
		off += inst.Len
		if inst.Op != x86asm.JMP && inst.Op != x86asm.CALL && !conditional(inst) {
			continue
		}
		if f.goesToFree(inst, next, s.Addr) {
			if len(code) <= thinBytes {
				return always
			}
			return sometimes
		}
	}
	return never
}

func conditional(inst x86asm.Inst) bool {
	_, ok := inst.Args[0].(x86asm.Rel)
	return ok
}

// goesToFree follows one branch at most through a PLT entry.
func (f *frees) goesToFree(inst x86asm.Inst, next, self uint64) bool {
	switch a := inst.Args[0].(type) {
	case x86asm.Mem:
		return a.Base == x86asm.RIP && f.slots[next+uint64(a.Disp)]
	case x86asm.Rel:
		to := next + uint64(int64(a))
		return to != self && f.addrs[to] || f.isStub(to)
	}
	return false
}

// isStub recognises a PLT entry of a free: an optional endbr64, then a jump
// through a GOT slot.
func (f *frees) isStub(addr uint64) bool {
	off, ok := f.e.Offset(addr)
	if !ok {
		return false
	}
	code, err := f.e.Code(off, 16)
	if err != nil {
		return false
	}
	if len(code) > 4 && isEndbr(code[:4]) {
		code, addr = code[4:], addr+4
	}
	inst, err := decode(code)
	if err != nil || inst.Op != x86asm.JMP {
		return false
	}
	m, ok := inst.Args[0].(x86asm.Mem)
	return ok && m.Base == x86asm.RIP && f.slots[addr+uint64(inst.Len)+uint64(m.Disp)]
}
