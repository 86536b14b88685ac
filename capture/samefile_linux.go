package capture

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/capture/symbol"
	"golang.org/x/sys/unix"
)

// The kernel's records name a file by its inode and the device of its file system, and so
// does /proc/PID/maps. Inode numbers alone are no names: two images of file systems that
// were made alike have equal ones. But stat tells another device on btrfs, that of a
// subvolume, and on overlayfs, mostly that of a layer. What it is to the kernel tell a
// descriptor's fdinfo (inode, since Linux 5.14, and mount) and mountinfo (the mount's device).

// openSame opens a path if it is the file that the kernel told of. If the path is in the
// process's own words, below /proc/PID, pid says whose; 0: it is a guess.
func openSame(path string, key moduleKey, pid uint32) *os.File {
	f, err := symbol.OpenRegular(filepath.Clean(path))
	if err != nil {
		return nil
	}
	if !sameFile(f, key, pid) {
		f.Close()
		return nil
	}
	return f
}

// sameFile reports whether an open file is the one that the kernel told of.
//
// Of a process's own path little doubt is left where the inode is the same: then what cannot
// be compared decides nothing. That is a mount which is not to be seen from here, and
// overlayfs, of which maps had a layer's device before Linux 6.8.
func sameFile(f *os.File, key moduleKey, pid uint32) bool {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	if st.Dev == key.dev && st.Ino == key.inode {
		return true
	}
	overlay := isOverlay(f)
	if st.Ino != key.inode && !overlay {
		return false
	}
	own, known := kernelKey(f, pid)
	if known && own == key {
		return true
	}
	return pid != 0 && st.Ino == key.inode && (overlay || !known)
}

func isOverlay(f *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// kernelKey is what the kernel knows an open file by. Its mount is looked up among this
// process's, and among those of pid.
func kernelKey(f *os.File, pid uint32) (moduleKey, bool) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		return moduleKey{}, false
	}
	inode, err := strconv.ParseUint(statusField(string(info), "ino:"), 10, 64)
	mount := statusField(string(info), "mnt_id:")
	if err != nil || mount == "" {
		return moduleKey{}, false
	}
	tables := []string{"/proc/self/mountinfo"}
	if pid != 0 {
		tables = append(tables, procPath(pid, "mountinfo"))
	}
	for _, table := range tables {
		if dev, ok := mountDevice(table, mount); ok {
			return moduleKey{dev, inode}, true
		}
	}
	return moduleKey{}, false
}

// mountDevice finds the device of a mount in a mountinfo, whose lines begin with the
// mount's number, its parent's and its device.
func mountDevice(table, mount string) (uint64, bool) {
	f, err := os.Open(table)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), " ", 4)
		if len(fields) < 4 || fields[0] != mount {
			continue
		}
		var major, minor uint32
		if n, _ := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); n == 2 {
			return unix.Mkdev(major, minor), true
		}
	}
	return 0, false
}
