package probe

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"sort"

	"golang.org/x/arch/x86/x86asm"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// glibc's free keeps small blocks for the thread to use again. When a thread
// ends, tcache_thread_shutdown (malloc/malloc.c) calls free once more for each
// block kept, and for the list itself, which no malloc gave. Those calls would
// look like second frees of the same blocks. They are probed too, so that the
// free that follows is known for what it is.
const (
	glibcName   = "libc.so.6"
	maxRecycles = 4 // calls; more are not what this looks for
)

// recycleNames are the functions in which the calls are, where there are symbols.
var recycleNames = map[string]bool{"tcache_thread_shutdown": true, "__malloc_arena_thread_freeres": true}

// recycles returns the calls of free by which an allocator hands on what had
// been freed before, as places of their own. In a shared glibc, whose symbols
// do not name the function, they are the direct calls of free outside the
// functions that are probed: all code but the allocator's own goes through
// the procedure linkage table.
func recycles(e *ELF, soname, file string, found []Symbol, debugFiles bool) ([]Function, error) {
	free, ok := symbolNamed(found, "free")
	if !ok || e.Machine() != elf.EM_X86_64 {
		return nil, nil
	}
	var starts []Symbol
	var named []Symbol
	err := e.each(debugFiles, func(s Symbol) bool {
		starts = append(starts, s)
		if recycleNames[s.Name] {
			named = append(named, s)
		}
		return true
	})
	if err != nil || soname != glibcName && len(named) == 0 {
		return nil, err
	}
	sort.Slice(starts, func(i, j int) bool { return starts[i].Offset < starts[j].Offset })
	var list []Function
	for _, site := range callSites(e, free) {
		wanted := within(named, site)
		if len(named) == 0 {
			wanted = !within(found, site)
		}
		if !wanted || !isCall(e, starts, site) {
			continue
		}
		list = append(list, Function{
			Name: "free", Fn: format.FnFree, Shape: bpf.RawShapeOfFree, Recycles: true,
			Entry: Point{
				Name: "free at a thread's end in " + file, Path: e.Path(), Offset: site,
				Placement: Placement{Class: Emulated, Why: "the call of free"},
			},
		})
	}
	if len(list) > maxRecycles {
		return nil, nil
	}
	return list, nil
}

func symbolNamed(list []Symbol, name string) (Symbol, bool) {
	for _, s := range list {
		if s.Name == name {
			return s, true
		}
	}
	return Symbol{}, false
}

// within reports whether a file offset lies in one of the functions.
func within(list []Symbol, off uint64) bool {
	for _, s := range list {
		if off-s.Offset < s.Size {
			return true
		}
	}
	return false
}

// callSites returns where bytes in the segment of a function look like a
// direct call of it (e8 and the distance from the next instruction).
func callSites(e *ELF, f Symbol) []uint64 {
	var sites []uint64
	for _, p := range e.file.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 || f.Offset-p.Off >= p.Filesz {
			continue
		}
		code, err := e.read(p.Off, p.Filesz, maxTable)
		if err != nil {
			return nil
		}
		for at := 0; ; at++ {
			i := bytes.IndexByte(code[at:], 0xe8)
			if i < 0 || at+i+5 > len(code) {
				break
			}
			at += i
			to := int64(at) + 5 + int64(int32(binary.LittleEndian.Uint32(code[at+1:])))
			if to == int64(f.Offset-p.Off) {
				sites = append(sites, p.Off+uint64(at))
			}
		}
	}
	return sites
}

// isCall makes sure that an instruction begins at the site: a breakpoint in
// the middle of one would be a bug in the program. It disassembles from the
// last function known to begin before it.
func isCall(e *ELF, starts []Symbol, site uint64) bool {
	i := sort.Search(len(starts), func(i int) bool { return starts[i].Offset > site })
	if i == 0 || site-starts[i-1].Offset > maxCode {
		return false
	}
	off := starts[i-1].Offset
	code, err := e.Code(off, int(site-off)+5)
	if err != nil {
		return false
	}
	for off < site {
		inst, err := decode(code)
		if err != nil {
			return false
		}
		off += uint64(inst.Len)
		code = code[inst.Len:]
	}
	if off != site {
		return false
	}
	inst, err := decode(code)
	return err == nil && inst.Op == x86asm.CALL
}
