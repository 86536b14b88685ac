package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/call"
	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/capture/symbol"
	"golang.org/x/sys/unix"
)

// find returns the sites of a declaration that are not known yet: as the processes
// have the file or, without any, as it is on this machine.
func (c *callProbes) find(spec *Probe, pids []uint32) ([]*callSite, error) {
	if spec.Decl.InKernel() {
		return c.findKernel(spec)
	}
	files, err := filesOf(spec, pids)
	if err != nil {
		return nil, err
	}
	return c.inFiles(spec, files)
}

// inFiles finds the sites of a declaration in files, but for those where it was looked
// for before.
func (c *callProbes) inFiles(spec *Probe, files []probedFile) ([]*callSite, error) {
	var sites []*callSite
	var errs []error
	for _, f := range files {
		key := fileSymbols{f.key, spec}
		if c.files[key] {
			continue
		}
		c.files[key] = true
		found, err := c.inFile(spec, f)
		if err != nil {
			errs = append(errs, err)
		}
		sites = append(sites, found...)
	}
	if len(sites) > 0 { // a pattern of paths need not have the function in each
		return sites, nil
	}
	if n := len(errs) - toldFiles; n > 1 {
		errs = append(errs[:toldFiles], fmt.Errorf("and the like of %d more files", n))
	}
	return nil, errors.Join(errs...)
}

// toldFiles bounds the files of a pattern whose errors are told.
const toldFiles = 3

// A probedFile is a file that a declaration means.
type probedFile struct {
	open string // how this process opens it
	path string // as its processes know it
	key  moduleKey
}

// filesOf are the files that a declaration is about. That of a pack is made for one
// program, which need not be what is at its path: it was replaced, or is in a container.
func filesOf(spec *Probe, pids []uint32) ([]probedFile, error) {
	if spec.open != "" {
		if key, err := fileKey(spec.open); err == nil {
			return []probedFile{{spec.open, spec.Decl.Path, key}}, nil
		} // the process has ended
	}
	return candidates(spec.Decl.Path, pids)
}

// fileKey tells a file from others.
func fileKey(open string) (moduleKey, error) {
	var st unix.Stat_t
	err := unix.Stat(open, &st)
	return moduleKey{st.Dev, st.Ino}, err
}

// candidates are the files that a path or pattern means: first what the processes
// have mapped, which may be deleted or replaced meanwhile, then what is at the path
// in their root directories.
func candidates(pattern string, pids []uint32) ([]probedFile, error) {
	var files []probedFile
	seen := map[moduleKey]bool{}
	add := func(open, path string) error {
		var st unix.Stat_t
		if err := unix.Stat(open, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return fmt.Errorf("%s %w", path, errNotRegular)
		}
		key := moduleKey{st.Dev, st.Ino}
		if !seen[key] {
			seen[key] = true
			files = append(files, probedFile{open, path, key})
		}
		return nil
	}
	if pattern = lookPath(pattern); !filepath.IsAbs(pattern) {
		return nil, fmt.Errorf("%s is in no directory of $PATH: say its path, as ./%s", pattern, pattern)
	}
	var tried []string
	roots := []string{""}
	if len(pids) > 0 {
		roots = nil
	}
	for _, pid := range pids {
		mapped(pid, pattern, add)
		roots = append(roots, procPath(pid, "root"))
	}
	var errs []error
	for _, root := range roots {
		tried = append(tried, root+pattern)
		paths := []string{root + pattern}
		if strings.ContainsAny(pattern, "*?[") {
			paths, _ = filepath.Glob(root + pattern) // the parser has checked it
		}
		for _, p := range paths {
			if err := add(p, strings.TrimPrefix(p, root)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	// A path of this process's own, though the targets have another root.
	if key, err := fileKey(pattern); err == nil && len(files) == 0 && slices.ContainsFunc(pids, func(pid uint32) bool { return runsCodeOf(pid, key) }) {
		return []probedFile{{pattern, pattern, key}}, nil
	}
	if err := errors.Join(errs...); len(files) == 0 && errors.Is(err, errNotRegular) && !probe.IsPattern(pattern) {
		return nil, err // it will not become one
	}
	if len(files) == 0 {
		errs = append(errs, fmt.Errorf("%w: looked for %s", errNoFile, strings.Join(tried, ", ")))
		return nil, errors.Join(errs...)
	}
	return files, nil
}

var (
	errNoFile     = errors.New("there is no such file")
	errNotRegular = errors.New("is no regular file")
)

// lookPath finds a name without a slash where the shell would.
func lookPath(name string) string {
	if strings.Contains(name, "/") {
		if abs, err := filepath.Abs(name); err == nil {
			return abs
		}
		return name
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode().IsRegular() {
			return filepath.Join(dir, name)
		}
	}
	return name
}

// mapped adds the files of a process that a pattern means; "" means all.
func mapped(pid uint32, pattern string, add func(open, path string) error) {
	f, err := os.Open(procPath(pid, "maps"))
	if err != nil {
		return
	}
	defer f.Close()
	maps, err := symbol.ParseMaps(f)
	if err != nil {
		return
	}
	patterns := mappedAs(pid, pattern)
	for _, m := range maps {
		if !m.Exec || m.Inode == 0 {
			continue
		}
		if pattern == "" || slices.ContainsFunc(patterns, func(p string) bool { return isPath(p, m.Path) }) {
			// What is left out here is found by its path, if it can be had at all.
			_ = add(procPath(pid, "map_files", fmt.Sprintf("%x-%x", m.Start, m.End)), m.Path)
		}
	}
}

// runsCodeOf reports whether a process has mapped code of a file.
func runsCodeOf(pid uint32, key moduleKey) bool {
	found := false
	mapped(pid, "", func(open, _ string) error {
		have, err := fileKey(open)
		found = found || err == nil && have == key
		return err
	})
	return found
}

// mappedAs are the patterns of paths that a process maps a declared path by: maps
// have the file, declarations often a link to it.
func mappedAs(pid uint32, pattern string) []string {
	root := procPath(pid, "root")
	if real, err := filepath.EvalSymlinks(root + pattern); err == nil {
		return []string{pattern, strings.TrimPrefix(real, root)}
	}
	return []string{pattern}
}

// isPath reports whether a path is one that a pattern means.
func isPath(pattern, path string) bool {
	ok, err := filepath.Match(pattern, path)
	return ok && err == nil
}

// inFile finds the sites of a declaration in one file.
func (c *callProbes) inFile(spec *Probe, f probedFile) ([]*callSite, error) {
	e, err := probe.OpenELF(f.open)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	e.SetName(f.path)
	e.SearchDebug(c.r.opts.DebugDirs)
	if spec.Decl.Kind == declare.USDT {
		return c.marks(spec, f, e)
	}
	symbols, err := functionsOf(e, spec.Decl)
	if err != nil {
		return nil, err
	}
	d, err := c.returns(spec, e)
	if err != nil {
		return nil, err
	}
	site, err := call.Function(e.Machine(), e.IsGo())
	if err != nil {
		return nil, err
	}
	program, err := call.Compile(d, site)
	if err != nil {
		return nil, err
	}
	var sites []*callSite
	for _, s := range symbols {
		if len(symbols) <= 16 && !e.IsUsed(s) {
			if err := c.r.note(true, fmt.Sprintf("%s in %s: nothing in the file calls it or names it; it may have been inlined into its callers or cloned%s, and then it is never hit",
				s.Name, f.path, e.Clones(s.Name))); err != nil {
				return nil, err
			}
		}
		own := *program
		if s.Name != spec.Decl.Symbol {
			own.Raw.Flags &^= uint16(bpf.RawProbeFlagProbeInside) // an address, at which a function begins
		}
		cs := &callSite{spec: spec, program: &own, path: f.path, symbol: s.Name, shared: len(symbols) > 1, trial: trial{checks: spec.Checks}}
		cs.entry, cs.ret = e.Points(s, program.NeedsReturn())
		sites = append(sites, cs)
	}
	return sites, c.warnOfUnwinding(spec, e, symbols, program.NeedsReturn())
}

// warnOfUnwinding says that exceptions do not get past a probed return. The packs that
// tcap comes with are of servers that are known not to let any.
func (c *callProbes) warnOfUnwinding(spec *Probe, e *probe.ELF, symbols []probe.Symbol, returns bool) error {
	if !returns || spec.BuiltIn || spec.Decl.Returns {
		return nil
	}
	for _, s := range symbols {
		if e.Unwinds(s) {
			return c.r.note(true, fmt.Sprintf("%s: an exception or panic that leaves %s while its return is probed ends the program, since no unwinder finds "+
				"its way past the kernel's return address; a uprobe without retval or duration is safe, {returns} takes the risk", spec.title(), symbol.Demangled(s.Name)))
		}
	}
	return nil
}

// functionsOf are the functions of a file that a declaration means.
func functionsOf(e *probe.ELF, d *declare.Probe) ([]probe.Symbol, error) {
	if d.Exact {
		return e.Exactly(d.Symbol)
	}
	return e.Functions(d.Symbol)
}

// returns is the declaration as it can be had in a file: where stacks move or are
// several, only entries are probed, unless the user wants it otherwise.
func (c *callProbes) returns(spec *Probe, e *probe.ELF) (*declare.Probe, error) {
	d := spec.Decl
	if !d.NeedsReturn() {
		return d, nil
	}
	why := ""
	switch {
	case e.IsGo():
		why = "it is a Go program, whose stacks move: it would crash at a probed return"
	case d.Returns:
		return d, nil
	default:
		name := e.SwitchesStacks()
		if name == "" {
			return d, nil
		}
		why = fmt.Sprintf("it switches stacks (it has %s), which the kernel's way to see returns may not survive; {returns} after the declaration takes the risk", name)
	}
	entry := *d
	if entry.Kind == declare.Uretprobe {
		entry.Kind = declare.Uprobe
	}
	entry.Returns = false
	if entry.NeedsReturn() {
		return nil, fmt.Errorf("%s: retval, duration and after() need the return, and %s", e.Name(), why)
	}
	return &entry, c.r.note(true, fmt.Sprintf("%s: only entries are recorded: %s", spec.title(), why))
}

// marks finds the sites of a USDT declaration.
func (c *callProbes) marks(spec *Probe, f probedFile, e *probe.ELF) ([]*callSite, error) {
	provider, name, _ := strings.Cut(spec.Decl.Symbol, ":")
	marks, err := e.Marks(provider, name)
	if err != nil {
		return nil, err
	}
	if len(marks) == 0 {
		return nil, e.NoMark(provider, name)
	}
	var sites []*callSite
	for _, m := range marks {
		site, err := call.ParseMark(e.Machine(), m.Args)
		if err != nil {
			return nil, err
		}
		program, err := call.Compile(spec.Decl, site)
		if err != nil {
			return nil, err
		}
		sites = append(sites, &callSite{
			spec: spec, program: program, path: f.path, symbol: m.Provider + ":" + m.Name, shared: len(marks) > 1,
			entry: probe.Point{Name: "mark " + m.Provider + ":" + m.Name + " in " + f.path, Path: e.Path(), Offset: m.Offset, Semaphore: m.Semaphore},
		})
	}
	return sites, nil
}
