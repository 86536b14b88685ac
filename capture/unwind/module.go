package unwind

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/tcap-dev/tcap/capture/symbol"
)

// Module is one ELF file whose code appears in stacks. What it needs of the
// file is read when a stack first passes through it. A nil Module has no rules.
type Module struct {
	u     *Unwinder
	file  io.ReaderAt
	path  string
	arch  Arch
	segs  []segment // those with code
	entry uint64
	err   error

	sources   []source // in the order in which they are asked; nil until they are read
	rules     map[string]*rule
	ruleBytes int64
	places    map[place]*rule // nil where there is none
	bytes     int64           // of all these, as far as the unwinder's sum has them
	noReturn  map[uint64]bool // functions that do not; nil until it is asked
	used      uint64          // the unwinder's clock
}

// A source tells rules. Both results are nil where it knows none.
type source interface {
	rule(pc uint64, m *Module) (*rule, error)
	bytes() int64
}

// place is an address in a module, shifted by one; the lowest bit is set behind
// a call. The highest is lost: no address of user space has it.
type place uint64

func placeOf(pc uint64, isReturn bool) place {
	if isReturn {
		return place(pc<<1 | 1)
	}
	return place(pc << 1)
}

// segment is the part of a PT_LOAD header that leads from the file to
// addresses.
type segment struct{ off, vaddr, size uint64 }

// maxPlaces and maxRuleBytes bound what a module remembers of single addresses;
// then it starts anew.
const (
	maxPlaces    = 1 << 16
	maxRuleBytes = 32 << 20
)

// errWork is given where the work for one stack is done.
var errWork = errors.New("the tables take too much work")

var errMachine = errors.New("neither amd64 nor arm64")

// Load returns the module of an ELF file. r must stay open for as long as the
// module is used; path is where a separate debug file is searched from. The
// result is never nil: for a file that cannot be used, Err says why, and stacks
// that come to it go on by frame pointers or end.
func (u *Unwinder) Load(r io.ReaderAt, path string) *Module {
	m := &Module{u: u, file: r, path: path}
	f, err := symbol.ReadELF(r)
	if err != nil {
		m.err = fmt.Errorf("module %s: %w", path, err)
		return m
	}
	switch {
	case f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB:
	case f.Machine == elf.EM_X86_64:
		m.arch = AMD64
	case f.Machine == elf.EM_AARCH64:
		m.arch = ARM64
	}
	if m.arch == 0 {
		m.err = fmt.Errorf("module %s: %w", path, errMachine)
		return m
	}
	m.entry = f.Entry
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && p.Off+p.Filesz >= p.Off {
			m.segs = append(m.segs, segment{p.Off, p.Vaddr, p.Filesz})
		}
	}
	return m
}

// Err returns why the module has no rules, or fewer than its file holds. It may
// become non-nil when a stack first passes through it.
func (m *Module) Err() error {
	if m == nil {
		return errors.New("no module")
	}
	return m.err
}

// address turns an offset in the file into the address that the file's tables
// speak of.
func (m *Module) address(off uint64) (uint64, bool) {
	for i := range m.segs {
		if s := &m.segs[i]; off-s.off < s.size {
			return off - s.off + s.vaddr, true
		}
	}
	return 0, false
}

// rule returns the rule at an address, nil where the file tells none. A return
// address belongs to the call before it, which may be the last instruction of
// its function.
func (m *Module) rule(pc uint64, isReturn bool) *rule {
	m.used = m.u.clock
	key := placeOf(pc, isReturn)
	r, ok := m.places[key]
	if ok {
		return r
	}
	if m.sources == nil {
		m.readSources()
	}
	if len(m.places) >= maxPlaces || m.ruleBytes > maxRuleBytes {
		clear(m.places)
		clear(m.rules)
		m.ruleBytes = 0
	}
	m.u.decoded++
	if r = m.find(pc, isReturn); m.u.work >= 0 {
		m.places[key] = r
	}
	m.u.account(m)
	return r
}

// keep shares a rule.
func (m *Module) keep(key string, r *rule) {
	m.rules[key] = r
	m.ruleBytes += int64(len(key)) + r.bytes()
}

// find asks the sources.
func (m *Module) find(pc uint64, isReturn bool) *rule {
	if m.arch == ARM64 {
		if r := m.signalRule(pc); r != nil {
			return r
		}
	}
	at := pc
	if isReturn {
		at--
	}
	for _, s := range m.sources {
		r, err := s.rule(at, m)
		if err != nil && err != errWork {
			m.note(err)
		}
		if r != nil {
			return r
		}
	}
	if r := m.signalRule(pc); r != nil {
		return r
	}
	if at-m.entry < startLength {
		return &rule{method: Code, ra: recipe{how: undefined}, end: Complete}
	}
	if m.arch == AMD64 {
		if r := m.follow(pc); r != nil {
			m.ruleBytes += r.bytes()
			return r
		}
	}
	return nil
}

// startLength is about the length of a program's _start, which may come
// without call frame information.
const startLength = 64

// decode makes the rule of a table at pc; both are nil where it has none.
func (s *machineState) decode(t *table, pc uint64, m *Module) (*rule, error) {
	e, ok, err := t.find(pc)
	if !ok {
		return nil, err
	}
	d := &e.description
	s.state, s.remembered = state{}, s.remembered[:0]
	s.loc, s.pc, s.budget, s.work = e.start, pc, maxInstructions, &m.u.work
	base := t.base
	base.function = e.start
	if err = s.run(d.instructions, d, &base); err != nil {
		return nil, err
	}
	s.initial, s.loc = s.state, e.start
	if err = s.run(e.instructions, d, &base); err != nil {
		return nil, err
	}
	return s.rule(m, t.data, d)
}

// note keeps the first error.
func (m *Module) note(err error) {
	if m.err == nil {
		m.err = fmt.Errorf("module %s: %w", m.path, err)
	}
}

// readSources finds the sections. What cannot be read is noted, and left out.
func (m *Module) readSources() {
	m.rules, m.places, m.sources = map[string]*rule{}, map[place]*rule{}, []source{}
	m.u.loaded = append(m.u.loaded, m)
	f, err := symbol.ReadELF(m.file)
	if err != nil {
		m.note(err)
		return
	}
	limit := m.u.opts.MaxSectionBytes
	m.add(ehFrame(f, limit))
	m.add(goFrames(f, limit, m.arch))
	m.add(debugFrame(f, limit))
	if file, debug := symbol.DebugFile(f, m.path, m.u.opts.DebugDirs); debug != nil {
		defer file.Close()
		m.add(debugFrame(debug, limit))
	}
}

func (m *Module) add(s source, err error) {
	if err != nil {
		m.note(err)
	}
	if s != nil {
		m.sources = append(m.sources, s)
	}
}

// placeBytes is about what a place takes, with its share of the map's room.
const placeBytes = 50

// account brings the sum up to date after m has grown, and drops the tables of
// others if need be.
func (u *Unwinder) account(m *Module) {
	size := int64(len(m.places))*placeBytes + m.ruleBytes
	for _, s := range m.sources {
		size += s.bytes()
	}
	u.bytes += size - m.bytes
	m.bytes = size
	for u.bytes > u.opts.MaxCacheBytes && len(u.loaded) > 1 {
		oldest := -1
		for i, other := range u.loaded {
			if other != m && (oldest < 0 || other.used < u.loaded[oldest].used) {
				oldest = i
			}
		}
		u.drop(oldest)
	}
}

// drop forgets the tables of a loaded module.
func (u *Unwinder) drop(i int) {
	m := u.loaded[i]
	u.bytes -= m.bytes
	m.sources, m.rules, m.places, m.ruleBytes, m.bytes = nil, nil, nil, 0, 0
	u.loaded = slices.Delete(u.loaded, i, i+1)
}

// debugFrame reads .debug_frame.
func debugFrame(f *elf.File, limit int64) (source, error) {
	data, err := symbol.SectionData(f, ".debug_frame", limit)
	if data == nil {
		return nil, err
	}
	t := &table{data: data, debug: true}
	return t, t.scan()
}

// ehFrame reads .eh_frame, by its segment if sections are stripped.
func ehFrame(f *elf.File, limit int64) (source, error) {
	t := &table{}
	if text := f.Section(".text"); text != nil {
		t.base.text = text.Addr
	}
	var hdr []byte
	var hdrAt, frames uint64
	for _, p := range f.Progs {
		if p.Type != elf.PT_GNU_EH_FRAME {
			continue
		}
		var ok bool
		if hdr, ok = loaded(f, p.Vaddr, p.Filesz, limit); ok {
			hdrAt = p.Vaddr
			frames, t.search, _ = searchTable(hdr, hdrAt)
		}
	}
	if s := f.Section(".eh_frame"); s != nil && s.Type != elf.SHT_NOBITS {
		data, err := symbol.SectionData(f, ".eh_frame", limit)
		if err != nil || data == nil {
			return nil, err
		}
		t.data, t.base.section = data, s.Addr
	} else if frames != 0 {
		// To the end of what is loaded there: the end mark comes earlier.
		data, ok := loaded(f, frames, 1<<62, limit)
		if !ok {
			return nil, damaged(".eh_frame at %#x is not in the file", frames)
		}
		t.data, t.base.section = data, frames
	} else {
		return nil, nil
	}
	if t.search == nil {
		return t, t.scan()
	}
	t.codeAt, t.entryAt = hdrAt, hdrAt-t.base.section
	return t, nil
}

// loaded reads memory as the file fills it: at most size bytes at an address.
func loaded(f *elf.File, addr, size uint64, limit int64) ([]byte, bool) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || addr-p.Vaddr >= p.Filesz {
			continue
		}
		off := addr - p.Vaddr
		size = min(size, p.Filesz-off)
		if size > uint64(limit) {
			return nil, false
		}
		data, err := io.ReadAll(io.NewSectionReader(p.ReaderAt, int64(off), int64(size)))
		return data, err == nil && len(data) > 0
	}
	return nil, false
}
