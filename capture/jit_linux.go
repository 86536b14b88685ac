package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
)

// generated returns the module that stands for code which a program made
// itself: the file in which it tells perf what lies where. nil when there is no
// such file. Offsets in it are addresses, so that the same address of two
// processes is two frames.
func (s *space) generated(w *format.Writer) *module {
	if s.jit != nil || s.owner == nil {
		return s.jit
	}
	path, open := perfMapOf(s.owner.pid, s.owner.uid)
	f, err := open()
	if err != nil {
		return nil // asked again when the next unknown address is met: the file may come yet
	}
	f.Close()
	s.jit = &module{id: w.Module(format.Module{Path: path}), path: path, jit: symbol.NewPerfMap(open)}
	return s.jit
}

// perfMapOf returns the name of a process's perf map, and what opens it: as the
// process sees it, in its own /tmp and by its own number, while it lives.
// Whoever may write into /tmp can put a file there, so that only one that
// belongs to the process's user or to root counts, as for perf itself.
func perfMapOf(pid, uid uint32) (string, func() (*os.File, error)) {
	own := innerPid(pid)
	path := "/tmp/perf-" + own + ".map"
	return path, func() (*os.File, error) {
		f, err := openOwned(procPath(pid, "root", path), uid)
		if err == nil || own != strconv.Itoa(int(pid)) {
			return f, err
		}
		return openOwned(path, uid) // the process has ended
	}
}

// innerPid is a process's number in its own namespace.
func innerPid(pid uint32) string {
	own := strconv.Itoa(int(pid))
	b, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return own
	}
	for line := range strings.Lines(string(b)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			if numbers := strings.Fields(list); len(numbers) > 0 {
				return numbers[len(numbers)-1]
			}
		}
	}
	return own
}

func openOwned(path string, uid uint32) (*os.File, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 && st.Uid != uid {
		f.Close()
		return nil, fmt.Errorf("%s: not a file of user %d", path, uid)
	}
	return f, nil
}
