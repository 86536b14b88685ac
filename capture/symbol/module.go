package symbol

import (
	"container/list"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ianlancetaylor/demangle"

	"github.com/tcap-dev/tcap/capture/symbol/internal/srcline"
)

// Module is one ELF file. Its methods accept a nil Module, which knows nothing.
type Module struct {
	resolver *Resolver
	path     string
	key      fileKey
	reopen   func() (*os.File, error)
	id       []byte
	segs     []segment
	err      error

	file     *os.File      // nil when closed
	openElem *list.Element // in resolver.open while file is held
	tables   *tables       // nil when not loaded
	loadElem *list.Element // in resolver.loaded while tables are
	// accounted is the part of resolver.size that tables took at the last use.
	accounted int64
}

// tables are what is read from a module and its debug file when it is first
// asked, and dropped when memory is short. Lines are read at the first Resolve,
// so that who only wants Symbols does not pay for them.
type tables struct {
	symbols   *symtab
	debug     fileRef // path "" when there is none
	haveLines bool    // the fields below were read
	lines     *srcline.Data
	goTable   *goTable
}

func (t *tables) size() int64 {
	n := t.symbols.bytes + t.lines.Size()
	if t.goTable != nil {
		n += t.goTable.size
	}
	return n
}

// BuildID returns the GNU build-id in hex, "" when there is none.
func (m *Module) BuildID() string {
	if m == nil {
		return ""
	}
	return hexID(m.id)
}

// Path returns the path given to [Resolver.Module].
func (m *Module) Path() string {
	if m == nil {
		return ""
	}
	return m.path
}

// Err returns why the module has no symbols, or fewer than its file holds: it
// could not be opened, is damaged, or passes a limit. It may become non-nil
// when the module is first resolved.
func (m *Module) Err() error {
	if m == nil {
		return errors.New("no module")
	}
	if m.err == nil && m.tables != nil {
		if err := m.tables.lines.Err(); err != nil {
			m.err = fmt.Errorf("module %s: %w", m.path, err)
		}
	}
	return m.err
}

// Symbols returns the module's functions by address, one for each address.
// The caller must not change them.
func (m *Module) Symbols() []Symbol {
	t := m.load()
	if t == nil {
		return nil
	}
	return t.symbols.symbols
}

// Resolve returns the frames at a file offset, innermost first: the functions
// inlined there, then the one that holds the code. There is always at least
// one, with an empty Function when nothing is known.
//
// A return address belongs to the instruction before it, the call, which may be
// in another line, inlined function or even function than the one after it;
// isReturnAddress says so. Offset still counts to fileOffset itself.
func (m *Module) Resolve(fileOffset uint64, isReturnAddress bool) []Frame {
	t := m.load()
	if t == nil {
		return []Frame{{}}
	}
	at := fileOffset
	if isReturnAddress && at > 0 {
		at--
	}
	addr, ok := addressOf(m.segs, at)
	if !ok {
		return []Frame{{}}
	}
	m.loadLines(t)
	frames := t.resolve(addr, fileOffset-at)
	m.resolver.touch(m)
	return frames
}

// resolve looks up addr; back is how far the address asked for lies behind it.
func (t *tables) resolve(addr, back uint64) []Frame {
	var outer Frame
	symbol, known := t.symbols.lookup(addr)
	if known {
		outer = Frame{Function: demangled(symbol.Name), Offset: addr + back - symbol.Addr}
	}
	found, start := t.lines.Lookup(addr)
	if len(found) == 0 {
		if frames := t.goTable.lookup(addr, back); frames != nil {
			return frames
		}
		return []Frame{outer}
	}
	if !known && start != 0 && start <= addr {
		outer.Offset = addr + back - start
	}
	frames := make([]Frame, len(found))
	for i, f := range found {
		frames[i] = Frame{Function: demangled(f.Name), File: f.File, Line: f.Line, Offset: outer.Offset, Inlined: i < len(found)-1}
	}
	// GCC gives a lambda no linkage name; the symbol tells where it belongs.
	last, raw := &frames[len(frames)-1], found[len(found)-1].Name
	if raw == "" || isMangled(symbol.Name) && !isMangled(raw) {
		last.Function, _, _ = strings.Cut(outer.Function, " [clone")
	}
	return frames
}

// isMangled tells names of C++ and Rust.
func isMangled(name string) bool {
	return strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R")
}

// demangled gives C++ and Rust names as people write them, without parameters.
// Other names stay as they are.
func demangled(name string) string {
	return demangledAs(name, demangle.NoParams, demangle.NoEnclosingParams)
}

func demangledAs(name string, options ...demangle.Option) (out string) {
	// Go names with dots or slashes and plain C names return at once.
	if len(name) < 2 || len(name) > maxNameBytes || name[0] != '_' {
		return name
	}
	defer func() {
		if recover() != nil {
			out = name
		}
	}()
	return demangle.Filter(name, options...)
}

// readHeaders takes what is kept for good: a few hundred bytes.
func (m *Module) readHeaders(file *os.File) {
	f, err := readELF(file)
	if err != nil {
		m.err = fmt.Errorf("module %s: %w", m.path, err)
		return
	}
	m.id, m.segs = buildID(f), segments(f)
}

// load returns the tables, reading them first if need be, or nil.
func (m *Module) load() *tables {
	if m == nil || m.segs == nil {
		return nil
	}
	if m.tables != nil {
		return m.tables
	}
	file, err := m.hold()
	if err != nil {
		m.err = fmt.Errorf("module %s: %w", m.path, err)
		return nil
	}
	f, err := readELF(file)
	if err != nil {
		m.err = fmt.Errorf("module %s: %w", m.path, err)
		return nil
	}
	t, err := readTables(f, m.id, m.path, &m.resolver.opts)
	if err != nil {
		m.err = fmt.Errorf("module %s: %w", m.path, err)
	}
	m.tables = t
	m.resolver.touch(m)
	return t
}

// loadLines reads the sources of lines once.
func (m *Module) loadLines(t *tables) {
	if t.haveLines {
		return
	}
	t.haveLines = true
	file, err := m.hold()
	if err == nil {
		t.lines, t.goTable, err = readSources(file, m.path, t.debug, &m.resolver.opts)
	}
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("module %s: %w", m.path, err)
	}
}

// hold returns the open file, opening it again if it was closed meanwhile.
func (m *Module) hold() (io.ReaderAt, error) {
	r := m.resolver
	if m.file != nil {
		r.open.MoveToFront(m.openElem)
		return m.file, nil
	}
	f, err := openRegular(m.reopen)
	if err != nil {
		return nil, err
	}
	if key, err := keyOf(f); err != nil || key != m.key {
		f.Close()
		return nil, errors.New("open module: the file was replaced")
	}
	r.holdFile(m, f)
	return f, nil
}

// readTables gathers all sources. The error tells what was left out; the
// tables hold the rest.
func readTables(f *elf.File, id []byte, path string, opts *Options) (*tables, error) {
	var (
		all   []candidate
		errs  []error
		bytes int64
	)
	gather := func(f *elf.File, kind elf.SectionType) {
		var n int64
		var err error
		all, n, err = functions(f, kind, opts.MaxSectionBytes, all)
		bytes += n
		errs = append(errs, err)
	}
	gather(f, elf.SHT_SYMTAB)
	gather(f, elf.SHT_DYNSYM)
	t := &tables{}
	file, debug := debugFile(f, id, path, opts.DebugDirs)
	if debug != nil {
		defer file.Close()
		gather(debug, elf.SHT_SYMTAB)
		if key, err := keyOf(file); err == nil {
			t.debug = fileRef{file.Name(), key}
		}
	}
	mini, err := miniDebugInfo(f, opts.MaxSectionBytes)
	errs = append(errs, err)
	if mini != nil {
		gather(mini, elf.SHT_SYMTAB)
	}
	t.symbols = newSymtab(all, bytes)
	return t, errors.Join(errs...)
}
