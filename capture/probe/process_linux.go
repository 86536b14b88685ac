package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/tcap-dev/tcap/capture/symbol"
)

// FindAllocators returns the ELF files mapped by a process, its executable
// included, that define an allocator. Files that cannot be read are left out
// and named by the error, beside which the result is good. A separate debug file of
// the executable is looked for below debugDirs first.
func FindAllocators(pid int, debugDirs ...string) ([]Object, error) {
	maps, err := readMaps(pid)
	if err != nil {
		return nil, err
	}
	exe, _ := statKey(procPath(pid, "exe")) // a kernel thread has none
	seen := map[fileKey]bool{}
	var list []Object
	var errs []error
	for _, m := range maps {
		if !m.Exec || m.Inode == 0 {
			continue
		}
		open := fmt.Sprintf("%s/%x-%x", procPath(pid, "map_files"), m.Start, m.End)
		key, err := statKey(open)
		if err != nil && !m.Deleted {
			// map_files needs CAP_CHECKPOINT_RESTORE.
			open = procPath(pid, "root") + m.Path
			key, err = statKey(open)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("look for an allocator in %s: %w", m.Path, err))
			continue
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		o, err := ReadObject(open, m.Path, key == exe, debugDirs...)
		if err != nil {
			errs = append(errs, err)
		} else if len(o.Functions) > 0 {
			list = append(list, o)
		}
	}
	return list, errors.Join(errs...)
}

func readMaps(pid int) ([]symbol.Mapping, error) {
	f, err := os.Open(procPath(pid, "maps"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find the allocators of process %d: no such process: %w", pid, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("find the allocators of process %d: %w", pid, err)
	}
	defer f.Close()
	maps, err := symbol.ParseMaps(f)
	if err != nil {
		return nil, fmt.Errorf("find the allocators of process %d: %w", pid, err)
	}
	return maps, nil
}

// ReadObject reads an ELF file's allocator. A file of another kind, mapped
// executable all the same, has none.
func ReadObject(open, path string, executable bool, debugDirs ...string) (Object, error) {
	f, err := symbol.OpenRegular(open)
	if errors.Is(err, symbol.ErrNotRegular) {
		return Object{}, nil
	}
	if err != nil {
		return Object{}, fmt.Errorf("look for an allocator in %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Object{}, fmt.Errorf("look for an allocator in %s: %w", path, err)
	}
	if !hasELFMagic(f) {
		return Object{}, nil
	}
	e, err := NewELF(f, info.Size(), open)
	if err != nil {
		return Object{}, fmt.Errorf("look for an allocator in %s: %w", path, err)
	}
	e.SetName(path) // next to which a debug file may be
	e.SearchDebug(debugDirs)
	// Debug files matter for executables alone: a library's allocator is of
	// no use unless .dynsym exports it.
	fns, err := AllocatorFunctions(e, path, executable)
	if err != nil {
		return Object{}, fmt.Errorf("look for an allocator in %s: %w", path, err)
	}
	return Object{Path: path, OpenPath: open, BuildID: e.BuildID(), Functions: fns, key: keyOf(info)}, nil
}

func hasELFMagic(f *os.File) bool {
	var magic [4]byte
	_, err := f.ReadAt(magic[:], 0)
	return err == nil && string(magic[:]) == "\x7fELF"
}

func statKey(path string) (fileKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileKey{}, err
	}
	return keyOf(info), nil
}
