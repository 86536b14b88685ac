package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/capture/snapshot"
	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
	"golang.org/x/sys/unix"
)

// A module is a mapped file. Its row in the capture is written when first a
// mapping shows it.
type module struct {
	id   format.ModuleID
	path string          // as its process names it
	file *os.File        // the very file, whatever its name points at by now; nil when it could not be opened
	jit  *symbol.PerfMap // of code that a program made itself, in place of a file
	code *snapshot.File  // as it is unwound
}

// moduleKey is how the kernel tells files apart in /proc/PID/maps.
type moduleKey struct{ dev, inode uint64 }

// modules holds every mapped file once, open, so that its inode is no other
// file's as long as it stands for it.
type modules struct {
	w     *format.Writer
	byKey map[moduleKey]*module
	dirs  []string // where they are, at most maxDirs
	room  int      // files that may still be kept open
	vdso  *module  // of 64-bit programs; nil until one is seen
	// Unnamed counts mappings of files that were not, whose frames get no names.
	Unnamed uint64
	// opened are called with each module that is seen for the first time.
	opened []func(pid uint32, m *module)
}

// newModules leaves half of the descriptors to the rest of the recorder: without
// them it could neither read /proc nor set probes.
func newModules() *modules {
	room := 512
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil {
		room = int(min(lim.Cur/2, 1<<20))
	}
	return &modules{byKey: map[moduleKey]*module{}, room: room}
}

// open returns the module of a line of a process's maps.
func (ms *modules) open(pid uint32, m symbol.Mapping) *module {
	key := moduleKey{m.Dev, m.Inode}
	if mod := ms.byKey[key]; mod != nil {
		return mod
	}
	mod := &module{path: m.Path}
	mod.file, _ = os.Open(procPath(pid, "map_files", fmt.Sprintf("%x-%x", m.Start, m.End)))
	if mod.file == nil {
		// map_files needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; the name serves where it still leads to the file.
		mod.file = openSame(procPath(pid, "root", m.Path), key, pid)
	}
	return ms.add(pid, key, mod)
}

// openNew returns the module of a mapping that the kernel just told of. The
// process may have ended or unmapped it since: then only the name is known.
func (ms *modules) openNew(pid uint32, key moduleKey, start, length uint64, name string) *module {
	if mod := ms.byKey[key]; mod != nil {
		return mod
	}
	page := uint64(os.Getpagesize())
	link := procPath(pid, "map_files", fmt.Sprintf("%x-%x", start, start+(length+page-1)&^(page-1)))
	mod := &module{path: name}
	// By now there may be another file in the place: dlclose, dlopen.
	if path, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(path), name) {
		mod.path = strings.TrimSuffix(path, " (deleted)")
		mod.file = openSame(link, key, pid)
	}
	if mod.file != nil {
		return ms.add(pid, key, mod)
	}
	if path, f := ms.search(name, key); f != nil {
		mod.path, mod.file = path, f
	}
	return ms.add(pid, key, mod)
}

// openExec returns the module of an executable by the path that was executed.
func (ms *modules) openExec(pid uint32, key moduleKey, path string) *module {
	if mod := ms.byKey[key]; mod != nil {
		return mod
	}
	return ms.add(pid, key, &module{path: path, file: openSame(path, key, 0)})
}

// openVDSO returns the module of a mapping of the vdso. The kernel gives every
// program of one ABI the same image, so this process's has what is to be known of
// it. 32-bit programs, which have their addresses below 4 GiB, have another one:
// of that, nil is known.
func (ms *modules) openVDSO(m symbol.Mapping) *module {
	own, err := symbol.VDSO()
	if err != nil || m.Start < 1<<32 {
		return nil
	}
	if info, err := own.Stat(); err != nil || uint64(info.Size()) != m.End-m.Start {
		return nil
	}
	if ms.vdso == nil {
		ms.vdso = &module{path: symbol.VDSOName, file: own}
		ms.write(ms.vdso)
	}
	return ms.vdso
}

const maxDirs = 64

// libraryDirs is where libraries mostly are, to find by name and inode one of a
// process that is gone already.
var libraryDirs = []string{
	"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
	"/usr/lib64", "/lib64", "/usr/lib", "/lib", "/usr/local/lib",
}

// search looks there, and where other files came from.
func (ms *modules) search(name string, key moduleKey) (string, *os.File) {
	if name == "" || name != filepath.Base(name) {
		return "", nil
	}
	for _, dir := range slices.Concat(libraryDirs, ms.dirs) {
		path := filepath.Join(dir, name)
		if f := openSame(path, key, 0); f != nil {
			return path, f
		}
	}
	return "", nil
}

func (ms *modules) add(pid uint32, key moduleKey, mod *module) *module {
	ms.write(mod)
	if mod.file != nil && ms.room == 0 {
		mod.file.Close()
		mod.file = nil
		ms.Unnamed++
	}
	if mod.file == nil {
		return mod // what its key stands for next time is to be seen then
	}
	ms.room--
	ms.byKey[key] = mod
	if dir := filepath.Dir(mod.path); len(ms.dirs) < maxDirs && !slices.Contains(ms.dirs, dir) {
		ms.dirs = append(ms.dirs, dir)
	}
	for _, tell := range ms.opened {
		tell(pid, mod)
	}
	return mod
}

// write gives a module its row, and what unwinds it.
func (ms *modules) write(mod *module) {
	row := format.Module{Path: mod.path}
	mod.code = &snapshot.File{Path: mod.path, Owner: mod}
	if mod.file != nil {
		row.BuildID = buildID(mod.file)
		if addr, offset, ok := symbol.CodeSegment(mod.file); ok {
			row = row.WithCode(addr, offset)
		}
		mod.code.Open = func() (*os.File, error) { return reopen(mod.file) }
	}
	mod.id = ms.w.Module(row)
}

// buildID reads a file's build-id; a file without one is known by its path.
func buildID(f *os.File) string {
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	e, err := probe.NewELF(f, st.Size(), f.Name())
	if err != nil {
		return ""
	}
	return e.BuildID()
}

func (ms *modules) close() {
	for _, m := range ms.byKey {
		if m.file != nil {
			m.file.Close()
		}
	}
}

// userDev turns the kernel's own device number (include/linux/kdev_t.h) into
// the one that makedev(3) gives.
func userDev(dev uint32) uint64 { return unix.Mkdev(dev>>20, dev&0xfffff) }
