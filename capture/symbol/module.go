package symbol

import (
	"container/list"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ianlancetaylor/demangle"
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
// asked, and dropped when memory is short.
type tables struct {
	symbols *symtab
}

func (t *tables) size() int64 { return t.symbols.bytes }

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
	frames := t.resolve(addr, fileOffset-at)
	m.resolver.touch(m)
	return frames
}

// resolve looks up addr; back is how far the address asked for lies behind it.
func (t *tables) resolve(addr, back uint64) []Frame {
	if s, ok := t.symbols.lookup(addr); ok {
		return []Frame{{Function: demangled(s.Name), Offset: addr + back - s.Addr}}
	}
	return []Frame{{}}
}

// demangled gives C++ and Rust names as people write them, without parameters.
// Other names stay as they are.
func demangled(name string) (out string) {
	// Go names with dots or slashes and plain C names return at once.
	if len(name) < 2 || len(name) > maxNameBytes || name[0] != '_' {
		return name
	}
	defer func() {
		if recover() != nil {
			out = name
		}
	}()
	return demangle.Filter(name, demangle.NoParams, demangle.NoEnclosingParams)
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
	debugHandle, debug := debugFile(f, id, path, opts.DebugDirs)
	if debug != nil {
		defer debugHandle.Close()
		gather(debug, elf.SHT_SYMTAB)
	}
	mini, err := miniDebugInfo(f, opts.MaxSectionBytes)
	errs = append(errs, err)
	if mini != nil {
		gather(mini, elf.SHT_SYMTAB)
	}
	return &tables{symbols: newSymtab(all, bytes)}, errors.Join(errs...)
}
