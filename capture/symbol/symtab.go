package symbol

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"sort"
	"strings"
)

const (
	// maxNameBytes bounds one name. C++ names of some tens of kilobytes exist.
	maxNameBytes = 64 << 10
	// maxNesting bounds how many symbols that enclose one another are tried.
	maxNesting = 64
)

// Symbol is a function of a module.
type Symbol struct {
	Addr uint64 // virtual address in the module, not a file offset
	Size uint64 // bytes; one without a size reaches to the next symbol
	Name string // as in the file (mangled), without @VERSION
}

// candidate is a symbol while the table is being built.
type candidate struct {
	Symbol
	limit uint64 // end of its section: how far it can reach when it has no size
	rank  uint8  // smaller is better
}

// Ranks of symbols at one address.
const (
	rankUnsized = 1 << iota // has no size: a label
	rankNoType              // not marked as a function
	rankLocal               // not exported
)

// symtab answers which function holds an address.
type symtab struct {
	symbols []Symbol // by address, one for each
	// parent[i] is the closest earlier symbol that reaches beyond the end of
	// i, or -1: where to look when an address is past i.
	parent []int32
	bytes  int64
}

// symbolEntry is Elf64_Sym or Elf32_Sym, decoded.
type symbolEntry struct {
	name        uint32
	info        byte
	shndx       uint16
	value, size uint64
}

func decodeSymbol(f *elf.File, b []byte) symbolEntry {
	o := f.ByteOrder
	if f.Class == elf.ELFCLASS64 {
		return symbolEntry{o.Uint32(b), b[4], o.Uint16(b[6:]), o.Uint64(b[8:]), o.Uint64(b[16:])}
	}
	return symbolEntry{o.Uint32(b), b[12], o.Uint16(b[14:]), uint64(o.Uint32(b[4:])), uint64(o.Uint32(b[8:]))}
}

// functions appends the functions of a symbol table section (SHT_SYMTAB or
// SHT_DYNSYM). debug/elf's own reader copies every name, and scans for its end
// without a bound; names here are pieces of one string.
func functions(f *elf.File, kind elf.SectionType, limit int64, into []candidate) ([]candidate, int64, error) {
	s := f.SectionByType(kind)
	if s == nil || s.Size == 0 {
		return into, 0, nil
	}
	if s.Link == 0 || int(s.Link) >= len(f.Sections) {
		return into, 0, fmt.Errorf("section %s: no string table", s.Name)
	}
	data, err := readSection(s, limit)
	if err != nil {
		return into, 0, err
	}
	raw, err := readSection(f.Sections[s.Link], limit-int64(len(data)))
	if err != nil {
		return into, 0, err
	}
	names, entry := string(raw), 24
	if f.Class == elf.ELFCLASS32 {
		entry = 16
	}
	for ; len(data) >= entry; data = data[entry:] {
		e := decodeSymbol(f, data)
		rank, ok := rankOf(f, e)
		if !ok || uint64(e.name) >= uint64(len(names)) {
			continue
		}
		name := names[e.name:min(uint64(e.name)+maxNameBytes, uint64(len(names)))]
		if i := strings.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if i := strings.IndexByte(name, '@'); i > 0 {
			name = name[:i]
		}
		if name == "" || isMappingSymbol(name) {
			continue
		}
		sec := f.Sections[e.shndx]
		into = append(into, candidate{Symbol{e.value, e.size, name}, sec.Addr + sec.Size, rank})
	}
	return into, int64(len(names)), nil
}

// rankOf tells whether e is code and how good a name it is.
func rankOf(f *elf.File, e symbolEntry) (uint8, bool) {
	if e.value == 0 || e.shndx == 0 || int(e.shndx) >= len(f.Sections) {
		return 0, false
	}
	var rank uint8
	switch elf.ST_TYPE(e.info) {
	case elf.STT_FUNC, elf.STT_GNU_IFUNC:
	case elf.STT_NOTYPE: // hand-written assembly
		if f.Sections[e.shndx].Flags&elf.SHF_EXECINSTR == 0 {
			return 0, false
		}
		rank |= rankNoType
	default:
		return 0, false
	}
	if e.size == 0 {
		rank |= rankUnsized
	}
	if elf.ST_BIND(e.info) == elf.STB_LOCAL {
		rank |= rankLocal
	}
	return rank, true
}

// isMappingSymbol reports the $x, $d, $a, $t marks of the Arm ABIs, which name
// a kind of content and no function.
func isMappingSymbol(name string) bool {
	return len(name) >= 2 && name[0] == '$' && strings.IndexByte("xdat", name[1]) >= 0 &&
		(len(name) == 2 || name[2] == '.')
}

// newSymtab sorts candidates and keeps the best name for each address.
func newSymtab(all []candidate, nameBytes int64) *symtab {
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.rank, b.rank),
			cmp.Compare(underscores(a.Name), underscores(b.Name)),
			cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	all = slices.CompactFunc(all, func(a, b candidate) bool { return a.Addr == b.Addr })
	all = dropInnerLabels(all)
	t := &symtab{symbols: make([]Symbol, len(all)), parent: make([]int32, len(all))}
	for i, c := range all {
		if c.Size == 0 {
			end := c.limit
			if i+1 < len(all) {
				end = min(end, all[i+1].Addr)
			}
			c.Size = max(end, c.Addr) - c.Addr
		}
		t.symbols[i] = c.Symbol
		p := int32(i - 1)
		for steps := 0; p >= 0 && t.end(p) <= t.end(int32(i)); steps++ {
			if p = t.parent[p]; steps == maxNesting {
				p = -1
			}
		}
		t.parent[i] = p
	}
	t.bytes = nameBytes + int64(len(all))*(40+4)
	return t
}

// dropInnerLabels removes labels without a size inside a function that has one:
// they are jump targets, not functions.
func dropInnerLabels(all []candidate) []candidate {
	var end uint64
	return slices.DeleteFunc(all, func(c candidate) bool {
		if c.Size == 0 {
			return c.Addr < end
		}
		end = max(end, c.Addr+c.Size)
		return false
	})
}

// underscores counts leading ones: of malloc, __libc_malloc and __malloc at the
// same address, the first is the one people know.
func underscores(name string) int {
	return len(name) - len(strings.TrimLeft(name, "_"))
}

func (t *symtab) end(i int32) uint64 {
	s := &t.symbols[i]
	if end := s.Addr + s.Size; end >= s.Addr {
		return end
	}
	return ^uint64(0)
}

// lookup returns the innermost function that holds addr.
func (t *symtab) lookup(addr uint64) (Symbol, bool) {
	if t == nil {
		return Symbol{}, false
	}
	i := int32(sort.Search(len(t.symbols), func(i int) bool { return t.symbols[i].Addr > addr })) - 1
	for steps := 0; i >= 0 && steps <= maxNesting; steps++ {
		if addr < t.end(i) {
			return t.symbols[i], true
		}
		i = t.parent[i]
	}
	return Symbol{}, false
}

// miniDebugInfo returns the ELF file inside .gnu_debugdata, a symbol table that
// Fedora's binaries carry (https://sourceware.org/gdb/current/onlinedocs/gdb/MiniDebugInfo.html).
func miniDebugInfo(f *elf.File, limit int64) (*elf.File, error) {
	data, err := MiniDebugInfo(f, limit)
	if data == nil || err != nil {
		return nil, err
	}
	return readELF(bytes.NewReader(data))
}
