package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/tcap-dev/tcap/capture/symbol"
)

const (
	maxLibraries = 4096    // of one process, in the closure
	maxEnviron   = 8 << 20 // bytes of /proc/PID/environ; the kernel allows a quarter of the stack
	maxSymlinks  = 40      // as the kernel has it
)

// defaultLibraryDirs is where loaders look at last: glibc's and musl's
// built-in paths and Debian's multiarch ones.
var defaultLibraryDirs = []string{
	"/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib",
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib/x86_64-linux-gnu",
	"/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib/aarch64-linux-gnu",
}

// allocatorLibraries start the names of libraries that programs load late.
var allocatorLibraries = []string{"libc.so.6", "ld-musl-", "libjemalloc", "libtcmalloc", "libmimalloc"}

// Prearm returns allocators that a process has not mapped but may map later,
// so that probes can wait in them: its libraries, if it was stopped before the
// loader ran, and every well-known allocator that is installed, in case it
// opens one by name. To set a probe in a file that is never mapped costs
// nothing at run time.
//
// Libraries are looked for as ld.so(8) does it, in the process's own root
// directory, but in all places instead of the first. The result does not
// repeat what FindAllocators returns. Libraries that cannot be read are named
// by the error, beside which the result is good.
func Prearm(pid int, debugDirs ...string) ([]Object, error) {
	exe := procPath(pid, "exe")
	exeKey, err := statKey(exe)
	if err != nil {
		return nil, fmt.Errorf("find the libraries of process %d: %w", pid, err)
	}
	name, err := os.Readlink(exe)
	if err != nil {
		return nil, fmt.Errorf("find the libraries of process %d: %w", pid, err)
	}
	s := &librarySearch{root: procPath(pid, "root"), seen: map[fileKey]bool{exeKey: true}}
	maps, err := readMaps(pid)
	if err != nil {
		return nil, err
	}
	for _, m := range maps {
		if m.Exec && m.Inode != 0 {
			if key, err := statKey(fmt.Sprintf("%s/%x-%x", procPath(pid, "map_files"), m.Start, m.End)); err == nil {
				s.mapped(key)
			}
		}
	}
	s.readEnviron(procPath(pid, "environ"))
	s.cache = parseLDCache(s.readFile("/etc/ld.so.cache", maxLDCache))
	e, err := OpenELF(exe)
	if err != nil {
		return nil, fmt.Errorf("find the libraries of process %d: %w", pid, err)
	}
	defer e.Close()
	e.SetName(strings.TrimSuffix(name, " (deleted)"))
	e.SearchDebug(debugDirs)
	if err := speechless(e); err != nil {
		s.errs = append(s.errs, err)
	}
	s.follow(e, path.Dir(e.Name()))
	for _, lib := range s.preload {
		s.find(lib, nil)
	}
	s.findAllocators()
	return s.objects, errors.Join(s.errs...)
}

// speechless is an error for a program that loads no library and defines no
// allocator of a known name.
func speechless(e *ELF) error {
	dyn, err := e.Dynamic()
	if err != nil || isLoader(dyn.SoName) || e.Interp() != "" {
		return nil // an error is told by whoever reads the libraries
	}
	if found, err := allocatorSymbols(e, true); err != nil || definesAllocator(found) {
		return nil
	}
	why := "nothing is called malloc in " + e.tables()
	if e.IsGo() {
		why = "a Go program has a heap of its own"
	}
	return fmt.Errorf("%s is linked statically and has no allocator that is known, so its heap is not recorded: %s", e.Name(), why)
}

// librarySearch walks the libraries that a program needs.
type librarySearch struct {
	root    string // the process's, as /proc/PID/root
	env     []string
	preload []string
	cache   libraryCache

	seen    map[fileKey]bool // followed already
	known   map[fileKey]bool // mapped: followed, not returned
	names   map[string]bool
	objects []Object
	errs    []error
}

func (s *librarySearch) mapped(key fileKey) {
	if s.known == nil {
		s.known = map[fileKey]bool{}
	}
	s.known[key] = true
}

// readEnviron takes LD_LIBRARY_PATH and LD_PRELOAD, and /etc/ld.so.preload.
func (s *librarySearch) readEnviron(file string) {
	data, err := readLimited(file, maxEnviron)
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("find the libraries: %w", err))
	}
	split := func(r rune) bool { return strings.ContainsRune(" :;\t\n", r) }
	for _, v := range bytes.Split(data, []byte{0}) {
		if text, ok := strings.CutPrefix(string(v), "LD_LIBRARY_PATH="); ok {
			s.env = strings.FieldsFunc(text, split)
		}
		if text, ok := strings.CutPrefix(string(v), "LD_PRELOAD="); ok {
			s.preload = append(s.preload, strings.FieldsFunc(text, split)...)
		}
	}
	s.preload = append(s.preload, strings.FieldsFunc(string(s.readFile("/etc/ld.so.preload", maxPathLen)), split)...)
}

// follow looks for everything that an ELF file in directory origin needs.
func (s *librarySearch) follow(e *ELF, origin string) {
	if interp := e.Interp(); interp != "" {
		s.add(interp)
	}
	dyn, err := e.Dynamic()
	if err != nil {
		s.errs = append(s.errs, err)
		return
	}
	var dirs []string
	for _, dir := range dyn.RunPath {
		dir = strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin, "$LIB", "lib", "${LIB}", "lib").Replace(dir)
		dirs = append(dirs, dir)
	}
	for _, name := range dyn.Needed {
		s.find(name, dirs)
	}
}

// find adds a library by name, wherever it is, or by path.
func (s *librarySearch) find(name string, dirs []string) {
	if strings.Contains(name, "/") {
		s.add(name)
		return
	}
	if key := name + "\x00" + strings.Join(dirs, "\x00"); s.names[key] {
		return
	} else if s.names == nil {
		s.names = map[string]bool{key: true}
	} else {
		s.names[key] = true
	}
	for _, group := range [][]string{dirs, s.env, defaultLibraryDirs} {
		for _, dir := range group {
			s.add(path.Join(dir, name))
		}
	}
	for _, file := range s.cache[name] {
		s.add(file)
	}
}

// findAllocators adds the known allocators that are installed.
func (s *librarySearch) findAllocators() {
	matches := func(name string) bool {
		for _, lib := range allocatorLibraries {
			if strings.HasPrefix(name, lib) && strings.Contains(name, ".so") {
				return true
			}
		}
		return false
	}
	var files []string
	for name, paths := range s.cache {
		if matches(name) {
			files = append(files, paths...)
		}
	}
	for _, dir := range append(append([]string(nil), s.env...), defaultLibraryDirs...) {
		real, err := s.resolve(dir)
		if err != nil {
			continue
		}
		entries, _ := os.ReadDir(s.root + real) // an unreadable directory has none
		for _, entry := range entries {
			if matches(entry.Name()) {
				files = append(files, path.Join(real, entry.Name()))
			}
		}
	}
	sort.Strings(files)
	for _, file := range files {
		s.add(file)
	}
}

// add follows a library if the file exists and is new, and returns its
// allocator.
func (s *librarySearch) add(file string) {
	if !path.IsAbs(file) || len(s.seen) > maxLibraries {
		return
	}
	real, err := s.resolve(file)
	if err != nil {
		return // not here
	}
	open := s.root + real
	key, err := statKey(open)
	if err != nil || s.seen[key] {
		return
	}
	s.seen[key] = true
	e, err := OpenELF(open)
	if err != nil {
		return // a linker script, or for another kind of machine
	}
	defer e.Close()
	s.follow(e, path.Dir(real))
	if s.known[key] {
		return
	}
	o, err := ReadObject(open, real, false)
	if err != nil {
		s.errs = append(s.errs, err)
	} else if len(o.Functions) > 0 {
		s.objects = append(s.objects, o)
	}
}

// resolve follows symbolic links within the root: an absolute one starts
// there and not at this process's root.
func (s *librarySearch) resolve(file string) (string, error) {
	done := "/"
	todo := strings.Split(path.Clean(file), "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		next := path.Join(done, name) // ".." stops at the root
		info, err := os.Lstat(s.root + next)
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxSymlinks {
			return "", fmt.Errorf("resolve %s: too many symbolic links", file)
		}
		to, err := os.Readlink(s.root + next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(to) {
			done = "/"
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return done, nil
}

// readFile returns a file of the target's, or nil.
func (s *librarySearch) readFile(file string, limit int64) []byte {
	real, err := s.resolve(file)
	if err != nil {
		return nil
	}
	data, _ := readLimited(s.root+real, limit) // an unreadable file says nothing
	return data
}

func readLimited(file string, limit int64) ([]byte, error) {
	f, err := symbol.OpenRegular(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
