// Package symbol turns addresses into source positions on the recording
// machine, so that a capture carries its symbols with it and opens anywhere.
//
// An address arrives as a module (an ELF file that some process has mapped)
// and an offset in that file: what /proc/PID/maps gives, and what does not
// change between processes. The module's PT_LOAD headers turn the offset into
// the virtual address that symbol tables and DWARF speak. The name then comes
// from the best source there is, in this order:
//
//  1. DWARF of the module or of its separate debug file: function, file, line,
//     and the functions that were inlined there. What -gsplit-dwarf put
//     elsewhere comes from a .dwp file or the compiler's .dwo files;
//  2. .gopclntab, for stripped Go programs: function, file, line, and since Go
//     1.20 inlined functions, too;
//  3. .symtab, .dynsym, the debug file's .symtab and .gnu_debugdata: function.
//
// Separate debug files are found by build-id or .gnu_debuglink below
// Options.DebugDirs. Nothing is ever fetched from the network.
//
// The files are not trusted: a recorder that runs as root reads whatever the
// recorded processes have mapped. Every size is checked against a limit before
// memory is taken for it, loops are bounded by the bytes that feed them, and a
// damaged module costs its own symbols and nothing else.
package symbol

import (
	"container/list"
	"os"
)

// Defaults of [Options].
const (
	DefaultMaxCacheBytes   = 512 << 20
	DefaultMaxSectionBytes = 512 << 20
	DefaultMaxOpenFiles    = 256
)

// Options limit and direct a [Resolver]. The zero value uses the defaults.
type Options struct {
	// DebugDirs are searched for separate debug files, in order.
	// Nil means /usr/lib/debug; an empty slice means none.
	DebugDirs []string

	// MaxCacheBytes bounds the symbol tables and DWARF data that are kept
	// for all modules together. When it is passed, those of the module that
	// was used longest ago are dropped; they are read again when needed.
	// The module in use is never dropped, so the peak is this plus one
	// module (see MaxSectionBytes).
	MaxCacheBytes int64

	// MaxSectionBytes bounds, per file, the decompressed bytes of the DWARF
	// sections together, and of the symbol and string tables together. What
	// is larger is not read: the module then resolves without it.
	MaxSectionBytes int64

	// MaxOpenFiles bounds the files that are held open. A file that was
	// closed to stay below it is opened again when needed; if it has gone
	// by then, what was not read yet is lost.
	MaxOpenFiles int
}

// Frame is one function of an address. Several frames share an address where
// functions were inlined.
type Frame struct {
	// Function is the demangled name without parameters, "" when unknown.
	Function string
	// File is the source path as the compiler recorded it, "" when unknown.
	File string
	// Line is the source line, 0 when unknown.
	Line int
	// Offset is the distance in bytes of the address from the start of the
	// function that holds its code. Inlined frames have no code of their
	// own and carry the offset of the function they were inlined into.
	Offset uint64
	// Inlined says that the function was inlined into the next frame's.
	Inlined bool
}

// Resolver resolves addresses of one recording machine. It caches modules and
// is not safe for concurrent use, nor are the modules it returns.
type Resolver struct {
	opts    Options
	modules map[fileKey]*Module
	bad     map[string]*Module // files that could not be opened, by path
	loaded  *list.List         // *Module with tables in memory, most recent first
	open    *list.List         // *Module with an open file, most recent first
	size    int64              // bytes of all loaded tables
}

// maxBadModules bounds the memory spent on paths that do not open.
const maxBadModules = 4096

// NewResolver returns an empty resolver. Close it to release its files.
func NewResolver(opts Options) *Resolver {
	if opts.DebugDirs == nil {
		opts.DebugDirs = []string{"/usr/lib/debug"}
	}
	if opts.MaxCacheBytes <= 0 {
		opts.MaxCacheBytes = DefaultMaxCacheBytes
	}
	if opts.MaxSectionBytes <= 0 {
		opts.MaxSectionBytes = DefaultMaxSectionBytes
	}
	if opts.MaxOpenFiles <= 0 {
		opts.MaxOpenFiles = DefaultMaxOpenFiles
	}
	return &Resolver{
		opts:    opts,
		modules: make(map[fileKey]*Module),
		bad:     make(map[string]*Module),
		loaded:  list.New(),
		open:    list.New(),
	}
}

// Module returns the module behind open, which must return the ELF file itself
// (through /proc/PID/root or /proc/PID/map_files for a container's or a deleted
// one). path is the name the process knows it by; it is what Path returns and
// where a .gnu_debuglink is searched from. The file is identified by device,
// inode, size and modification time, so the same file is read once whatever
// paths lead to it. The resolver keeps and closes the file.
//
// The result is never nil. A file that cannot be opened, or is no ELF file,
// gives a module without symbols whose Err says why.
func (r *Resolver) Module(open func() (*os.File, error), path string) *Module {
	f, err := openRegular(open)
	if err != nil {
		return r.badModule(path, err)
	}
	key, err := keyOf(f)
	if err != nil {
		f.Close()
		return r.badModule(path, err)
	}
	if m, ok := r.modules[key]; ok {
		f.Close()
		return m
	}
	m := &Module{resolver: r, path: path, key: key, reopen: open}
	r.modules[key] = m
	r.holdFile(m, f)
	m.readHeaders(f)
	return m
}

func (r *Resolver) badModule(path string, err error) *Module {
	if m, ok := r.bad[path]; ok {
		return m
	}
	m := &Module{path: path, err: err}
	if len(r.bad) < maxBadModules {
		r.bad[path] = m
	}
	return m
}

// Close closes the files and drops the tables. Modules stay valid, but resolve
// only what is read again.
func (r *Resolver) Close() error {
	for r.loaded.Len() > 0 {
		r.unload(r.loaded.Back().Value.(*Module))
	}
	for r.open.Len() > 0 {
		r.releaseFile(r.open.Back().Value.(*Module))
	}
	clear(r.modules)
	clear(r.bad)
	return nil
}

// holdFile keeps f open for m, closing the one used longest ago when there are
// too many.
func (r *Resolver) holdFile(m *Module, f *os.File) {
	m.file = f
	m.openElem = r.open.PushFront(m)
	for r.open.Len() > r.opts.MaxOpenFiles && r.open.Len() > 1 {
		r.releaseFile(r.open.Back().Value.(*Module))
	}
}

func (r *Resolver) releaseFile(m *Module) {
	r.open.Remove(m.openElem)
	m.file.Close()
	m.file, m.openElem = nil, nil
}

// touch marks m as used now and accounts for its tables having grown or shrunk.
func (r *Resolver) touch(m *Module) {
	if m.loadElem == nil {
		m.loadElem = r.loaded.PushFront(m)
	} else {
		r.loaded.MoveToFront(m.loadElem)
	}
	size := m.tables.size()
	r.size += size - m.accounted
	m.accounted = size
	for r.size > r.opts.MaxCacheBytes && r.loaded.Len() > 1 {
		r.unload(r.loaded.Back().Value.(*Module))
	}
}

func (r *Resolver) unload(m *Module) {
	r.loaded.Remove(m.loadElem)
	r.size -= m.accounted
	m.loadElem, m.tables, m.accounted = nil, nil, 0
}
