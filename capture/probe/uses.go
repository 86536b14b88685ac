package probe

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
)

// maxImage bounds the bytes of a file that are searched for uses of a function.
const maxImage = 256 << 20

// IsUsed reports whether anything in the file calls, jumps to or names the
// address of a function. If nothing does, the function may have been inlined
// into its callers, or cloned by the linker, and a probe at it is never hit. It
// says true when it cannot tell: on other machines than amd64, of a library
// function that others may call, and of what is too large.
func (e *ELF) IsUsed(s Symbol) bool {
	if e.Machine() != elf.EM_X86_64 || e.Interp() == "" && e.file.Type == elf.ET_DYN {
		return true
	}
	if e.file.Entry == s.Addr || s.Name == "main" {
		return true
	}
	sum := uint64(0)
	for _, p := range e.file.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if sum += p.Filesz; sum > maxImage {
			return true
		}
		data, err := e.read(p.Off, p.Filesz, maxImage)
		if err != nil || p.Flags&elf.PF_X != 0 && leadsTo(data, p.Vaddr, s) {
			return true
		}
		var addr [8]byte
		binary.LittleEndian.PutUint64(addr[:], s.Addr)
		if holds(data, p.Vaddr, addr[:], e.symbolTables()) {
			return true
		}
	}
	return false
}

// leadsTo reports whether code has a distance that leads to the function from
// behind itself, as calls, jumps and addresses relative to the program counter
// do. Jumps of the function to its own start do not count.
func leadsTo(code []byte, at uint64, s Symbol) bool {
	for i := 0; i+4 <= len(code); i++ {
		next := at + uint64(i) + 4
		if next+uint64(int64(int32(binary.LittleEndian.Uint32(code[i:])))) == s.Addr && (next < s.Addr || next >= s.Addr+max(s.Size, 1)) {
			return true
		}
	}
	return false
}

// symbolTables are the addresses of tables that name every function.
func (e *ELF) symbolTables() (ranges [][2]uint64) {
	for _, s := range e.file.Sections {
		if s.Type == elf.SHT_DYNSYM || s.Type == elf.SHT_SYMTAB {
			ranges = append(ranges, [2]uint64{s.Addr, s.Addr + s.Size})
		}
	}
	return ranges
}

// holds reports whether data has a word outside the ranges.
func holds(data []byte, at uint64, word []byte, except [][2]uint64) bool {
	for from := 0; ; {
		i := bytes.Index(data[from:], word)
		if i < 0 {
			return false
		}
		where, inTable := at+uint64(from+i), false
		for _, r := range except {
			inTable = inTable || where >= r[0] && where < r[1]
		}
		if !inTable {
			return true
		}
		from += i + 1
	}
}

// switchers are functions by which programs go on with another stack.
var switchers = []string{
	"swapcontext", "makecontext", "setcontext", "jump_fcontext", "make_fcontext", "nty_coroutine_create",
	"co_create", "coro_transfer", "_switch", "st_thread_create",
}

// SwitchesStacks returns the name of a function by which the program goes on with
// another stack, "" if there is none. The kernel sees a return by an address that
// it puts on the stack, and takes stacks for one: where they are several, it
// can end the program (handle_trampoline in kernel/events/uprobes.c).
//
// A library is no program, even one that can be started: glibc's has an interpreter
// and makecontext, which says nothing of those that use it.
func (e *ELF) SwitchesStacks() string {
	if d, err := e.Dynamic(); err == nil && d.SoName != "" {
		return ""
	}
	if e.Interp() == "" && e.file.Type != elf.ET_EXEC {
		return ""
	}
	return e.has(switchers)
}

// throws are functions by which exceptions of C++ and panics of Rust begin, go on and end.
// Who throws by a library's function, as vector::at does, has none of the first.
var throws = []string{"__cxa_throw", "__cxa_rethrow", "_Unwind_RaiseException", "_Unwind_Resume", "__cxa_begin_catch"}

// Unwinds reports whether an exception may pass a function: it is one of C++ or Rust,
// in a program or library that has to do with exceptions. While its return is probed, the address on the stack
// is the kernel's, where no unwinder finds its way on: the exception finds no handler
// beyond the function, and the program ends.
func (e *ELF) Unwinds(s Symbol) bool {
	if !isMangled(s.Name) {
		return false
	}
	if e.unwinds == nil {
		has := e.has(throws) != ""
		e.unwinds = &has
	}
	return *e.unwinds
}

// has returns the first of the functions that the file defines or imports, "" if
// there is none.
func (e *ELF) has(names []string) string {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	found := ""
	_ = e.Each(func(s Symbol) bool { // what cannot be read has no functions to probe either
		if wanted[s.Name] {
			found = s.Name
		}
		return found == ""
	})
	if found != "" {
		return found
	}
	imported, err := e.file.ImportedSymbols()
	if err != nil {
		return ""
	}
	for _, s := range imported {
		if name, _, _ := strings.Cut(s.Name, "@"); wanted[name] {
			return name
		}
	}
	return ""
}
