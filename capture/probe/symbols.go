package probe

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"sort"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/capture/symbol"
)

// Symbol is a function that a file defines.
type Symbol struct {
	Name   string
	Addr   uint64 // in the file's own address space
	Size   uint64 // bytes; 0 if unknown
	Offset uint64 // file offset in bytes
	Local  bool   // static in C
	old    bool   // not the default version of the name
}

// ErrNoSymbol is wrapped by the error of a name that is not found.
var ErrNoSymbol = errors.New("no such function")

// Each calls fn for every function defined in .dynsym and .symtab, and if the
// file itself has no .symtab, for those of the separate debug file, of
// .gnu_debugdata and of Go's own table. One function may come several times. The
// walk ends when fn returns false.
func (e *ELF) Each(fn func(Symbol) bool) error { return e.each(true, fn) }

func (e *ELF) each(debugFiles bool, fn func(Symbol) bool) error {
	more := true
	keep := func(s Symbol) bool { more = fn(s); return more }
	if _, err := e.scan(elf.SHT_DYNSYM, e, keep); err != nil || !more {
		return err
	}
	found, err := e.scan(elf.SHT_SYMTAB, e, keep)
	if err != nil || found || !more || !debugFiles {
		return err
	}
	if d := e.debugFile(); d != nil {
		defer d.Close()
		if _, err = d.scan(elf.SHT_SYMTAB, e, keep); err != nil || !more {
			return err
		}
	}
	return e.eachPacked(keep)
}

// eachPacked calls fn for the functions of the tables that are in a stripped file
// all the same, until it returns false.
func (e *ELF) eachPacked(fn func(Symbol) bool) error {
	data, err := symbol.MiniDebugInfo(e.file, maxTable)
	if err != nil {
		return fmt.Errorf("read %s: %w", e.path, err)
	}
	more := true
	keep := func(s Symbol) bool { more = fn(s); return more }
	if data != nil {
		mini, err := NewELF(bytes.NewReader(data), int64(len(data)), ".gnu_debugdata of "+e.path)
		if err != nil {
			return err
		}
		if _, err := mini.scan(elf.SHT_SYMTAB, e, keep); err != nil || !more {
			return err
		}
	}
	golang, err := symbol.GoFunctions(e.file, maxTable)
	for _, s := range golang {
		off, ok := e.Offset(s.Addr)
		if ok && !keep(Symbol{Name: s.Name, Addr: s.Addr, Size: s.Size, Offset: off}) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", e.path, err)
	}
	return nil
}

// IsGo reports whether the program was compiled by Go: the stacks of its
// functions move, under the feet of whoever waits for their return.
func (e *ELF) IsGo() bool {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab", ".note.go.buildid", ".go.buildinfo"} {
		if e.file.Section(name) != nil {
			return true
		}
	}
	return false
}

// scan walks one symbol table. Offsets come from the program headers of home:
// a debug file's own say nothing about the executable.
//
// debug/elf would copy every name, and a table in which all symbols share one
// huge name would then grow to any size.
func (e *ELF) scan(kind elf.SectionType, home *ELF, fn func(Symbol) bool) (found bool, err error) {
	table := e.file.SectionByType(kind)
	if table == nil || table.Flags&elf.SHF_COMPRESSED != 0 {
		return false, nil
	}
	syms, err := e.read(table.Offset, table.FileSize, maxTable)
	if err != nil {
		return false, fmt.Errorf("read %s of %s: %w", table.Name, e.path, err)
	}
	if int64(table.Link) >= int64(len(e.file.Sections)) {
		return false, fmt.Errorf("read %s of %s: it has no string table", table.Name, e.path)
	}
	link := e.file.Sections[table.Link]
	names, err := e.read(link.Offset, link.FileSize, maxTable)
	if err != nil {
		return false, fmt.Errorf("read %s of %s: %w", link.Name, e.path, err)
	}
	versions := e.versions(kind)
	for i := 0; len(syms) >= elf.Sym64Size; i, syms = i+1, syms[elf.Sym64Size:] {
		s, ok := e.decode(syms, names, home)
		if !ok {
			continue
		}
		if 2*i+1 < len(versions) {
			s.old = e.file.ByteOrder.Uint16(versions[2*i:])&0x8000 != 0 // VERSYM_HIDDEN
		}
		if !fn(s) {
			return true, nil
		}
	}
	return true, nil
}

// versions returns .gnu.version, which runs parallel to .dynsym, or nil.
func (e *ELF) versions(kind elf.SectionType) []byte {
	if kind != elf.SHT_DYNSYM {
		return nil
	}
	s := e.file.SectionByType(elf.SHT_GNU_VERSYM)
	if s == nil {
		return nil
	}
	data, err := e.read(s.Offset, s.FileSize, maxTable)
	if err != nil {
		return nil // then no version is known to be old
	}
	return data
}

// decode reads one Elf64_Sym. It passes over what is not a function defined
// here. An IFUNC's address is that of its resolver, not of the function.
func (e *ELF) decode(b, names []byte, home *ELF) (Symbol, bool) {
	order := e.file.ByteOrder
	at, info, shndx := order.Uint32(b), b[4], elf.SectionIndex(order.Uint16(b[6:]))
	addr, size := order.Uint64(b[8:]), order.Uint64(b[16:])
	if elf.ST_TYPE(info) != elf.STT_FUNC || shndx == elf.SHN_UNDEF || addr == 0 || uint64(at) >= uint64(len(names)) {
		return Symbol{}, false
	}
	name := names[at:min(uint64(at)+maxName, uint64(len(names)))]
	end := bytes.IndexByte(name, 0)
	if end <= 0 {
		return Symbol{}, false
	}
	off, ok := home.Offset(addr)
	if !ok {
		return Symbol{}, false
	}
	// Some linkers put the version into .symtab's names: read@@GLIBC_2.2.5
	// is the default one, read@GLIBC_2.0 is not.
	text, version, _ := strings.Cut(string(name[:end]), "@")
	return Symbol{
		Name: text, Addr: addr, Size: size, Offset: off,
		Local: elf.ST_BIND(info) == elf.STB_LOCAL,
		old:   version != "" && !strings.HasPrefix(version, "@"),
	}, text != ""
}

// better reports whether a names the wanted function rather than b does.
func better(a, b Symbol) bool {
	if a.old != b.old {
		return b.old
	}
	return b.Local && !a.Local
}

// Lookup finds a function by its exact name. A global symbol wins over local
// ones, a name's default version over old ones. Several local functions of
// one name are an error that tells their addresses. A name that is an address,
// as 0x4f0, means the function that starts there, or whatever code does.
func (e *ELF) Lookup(name string) (Symbol, error) {
	if addr, err := strconv.ParseUint(name, 0, 64); err == nil && strings.HasPrefix(name, "0x") {
		return e.lookupAddress(name, addr)
	}
	var found []Symbol
	err := e.Each(func(s Symbol) bool {
		if s.Name != name {
			return true
		}
		switch {
		case len(found) == 0 || better(s, found[0]):
			found = append(found[:0], s)
		case !better(found[0], s) && len(found) < 8 && found[0].Offset != s.Offset:
			found = append(found, s)
		}
		return true
	})
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var at []string
		for _, s := range found {
			at = append(at, fmt.Sprintf("0x%x", s.Addr))
		}
		return Symbol{}, fmt.Errorf("find %s in %s: several functions have this name, at %s; give the address instead",
			name, e.Name(), strings.Join(at, ", "))
	case err != nil:
		return Symbol{}, err
	}
	return Symbol{}, fmt.Errorf("find %s in %s: %w in %s%s", name, e.Name(), ErrNoSymbol, e.tables(), e.nearest(name))
}

// Alike names the functions that are named most like one that is not there, as a
// clause; "" when there are none.
func (e *ELF) Alike(name string) string {
	if near := e.nearest(strings.Trim(name, "*")).String(); near != "" {
		return " (" + strings.TrimPrefix(near, "; ") + ")"
	}
	return ""
}

// nearest returns the names in the file that are most similar to one that is not.
func (e *ELF) nearest(name string) *nearest {
	if strings.HasSuffix(name, ")") {
		name, _, _ = strings.Cut(name, "(") // parameters, by which names do not differ most
	}
	near := newNearest(name)
	_ = e.Each(func(s Symbol) bool { near.add(s.Name); return true }) // fewer names do not matter
	return near
}

func (e *ELF) lookupAddress(name string, addr uint64) (Symbol, error) {
	off, ok := e.Offset(addr)
	if !ok {
		return Symbol{}, fmt.Errorf("find %s in %s: no code is at this address", name, e.Name())
	}
	found := Symbol{Name: name, Addr: addr, Offset: off}
	err := e.Each(func(s Symbol) bool {
		if s.Addr == addr {
			found = s
		}
		return s.Addr != addr
	})
	return found, err
}

// tables says where symbols were looked for.
func (e *ELF) tables() string {
	var in []string
	for _, t := range []elf.SectionType{elf.SHT_DYNSYM, elf.SHT_SYMTAB} {
		if s := e.file.SectionByType(t); s != nil {
			in = append(in, s.Name)
		}
	}
	if len(in) == 0 {
		in = append(in, "the file, which has no symbol table")
	}
	if e.file.SectionByType(elf.SHT_SYMTAB) == nil {
		if d := e.debugFile(); d != nil {
			in = append(in, d.path)
			d.Close()
		} else {
			in = append(in, "a debug file (none is installed; the package's -dbgsym or -dbg has it)")
		}
		for _, name := range []string{".gnu_debugdata", ".gopclntab"} {
			if e.file.Section(name) != nil {
				in = append(in, name)
			}
		}
	}
	return strings.Join(in, " or ")
}

// Glob returns the functions whose names, as they are in the file or as people
// write them, match a pattern of path.Match, sorted by name, each name and each
// place once. In names a slash is a letter as any.
func (e *ELF) Glob(pattern string) ([]Symbol, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("function pattern %q: %w", pattern, err)
	}
	type key struct {
		name string
		off  uint64
	}
	seen := map[key]bool{}
	var list []Symbol
	err := e.Each(func(s Symbol) bool {
		if (match(pattern, s.Name) || isMangled(s.Name) && match(pattern, symbol.Demangled(s.Name))) && !seen[key{s.Name, s.Offset}] {
			seen[key{s.Name, s.Offset}] = true
			list = append(list, s)
		}
		return true
	})
	sort.SliceStable(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, err
}

// match is path.Match for names, in which Go has slashes.
func match(pattern, name string) bool {
	hide := func(s string) string { return strings.ReplaceAll(s, "/", "\x01") }
	ok, err := path.Match(hide(pattern), hide(name))
	return ok && err == nil
}

func isMangled(name string) bool {
	return strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R")
}

// nearest collects the names most similar to one that was not found.
type nearest struct {
	want string
	best []scored
}

type scored struct {
	name string
	dist int
}

const maxNearest = 3

func newNearest(want string) *nearest { return &nearest{want: want} }

// add considers a name of the file. Those of C++ and Rust count as people write them,
// and by their last part alone.
func (n *nearest) add(name string) {
	last := name
	if isMangled(name) {
		name = symbol.Demangled(name)
		last = lastName(name)
	}
	if len(last) > 4*len(n.want)+16 || len(name) > 256 || len(n.want) > 256 {
		return
	}
	d := editDistance(n.want, name)
	if last != name {
		d = min(d, editDistance(n.want, last))
	}
	if strings.Contains(name, n.want) || lastName(name) == lastName(n.want) {
		d = min(d, 2)
	}
	if d > 2+len(n.want)/8 {
		return
	}
	for _, b := range n.best {
		if b.name == name {
			return
		}
	}
	n.best = append(n.best, scored{name, d})
	sort.SliceStable(n.best, func(i, j int) bool { return n.best[i].dist < n.best[j].dist })
	n.best = n.best[:min(len(n.best), maxNearest)]
}

// lastName is what a function is called within its class, type or package.
func lastName(name string) string { return name[strings.LastIndexAny(name, ".:")+1:] }

func (n *nearest) String() string {
	if len(n.best) == 0 {
		return ""
	}
	var names []string
	for _, b := range n.best {
		names = append(names, b.name)
	}
	return "; it has " + strings.Join(names, ", ")
}

// editDistance is Levenshtein's: single-byte insertions, deletions and
// replacements.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
