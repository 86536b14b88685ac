package symbolize

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
)

// perfMapPath is how the recorder names the module of code that a process made itself.
var perfMapPath = regexp.MustCompile(`^/tmp/perf-\d+\.map$`)

// perfMap returns the file by which code that a process made itself is named, nil
// if m is no such module or the file is not there. It is searched for by its name in dirs and
// last where it was. There anybody could have put it, so that only one of root's
// or the reader's own counts.
func perfMap(m format.Module, dirs []string) *symbol.PerfMap {
	if m.BuildID != "" || !perfMapPath.MatchString(m.Path) {
		return nil
	}
	for _, dir := range dirs {
		if p := usable(filepath.Join(dir, filepath.Base(m.Path)), false); p != nil {
			return p
		}
	}
	return usable(m.Path, true)
}

func usable(path string, owned bool) *symbol.PerfMap {
	open := func() (*os.File, error) {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		if err == nil && (!st.Mode().IsRegular() || owned && !trusted(st)) {
			err = errors.New(path + ": not a file of root or of this user")
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
	f, err := open()
	if err != nil {
		return nil
	}
	f.Close()
	return symbol.NewPerfMap(open)
}

func trusted(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && (sys.Uid == 0 || int(sys.Uid) == os.Geteuid())
}

// namesMade resolves frames in code that a process made itself.
func namesMade(p *symbol.PerfMap, offset uint64) []format.Symbol {
	if name := p.Resolve(offset, true).Function; name != "" {
		return []format.Symbol{{Function: name}}
	}
	return nil
}
