package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// An output is the file of a capture.
type output struct {
	*os.File
	// ours is set once the file holds nothing but what this recording wrote, so
	// that an attempt which comes to nothing may remove it.
	ours bool
	// Until the recording begins, what it is to overwrite (locked), and its own name,
	// where it waits to take that place.
	old *os.File
	own string

	at     int64 // where the next byte goes
	limit  int64 // bytes that the file may have (RLIMIT_FSIZE)
	closed bool  // to events: what is written now is the end
	blind  bool  // the file system cannot keep room
}

// The room that is kept for the end of the file: the table of blocks, which
// grows with it, and what is said of the whole.
const (
	leastRoom = 16 << 10 // bytes
	roomShare = 64       // one byte in so many
	mostRoom  = 16 << 20 // bytes
)

// Write writes a block, if there will still be room for the file's end. When
// there would be none it writes nothing, and what comes after is taken to be
// the end: a full disk leaves a complete capture.
func (o *output) Write(p []byte) (int, error) {
	if err := o.keepRoom(int64(len(p))); err != nil {
		o.closed = true
		return 0, &fs.PathError{Op: "write", Path: o.Name(), Err: err}
	}
	n, err := o.File.Write(p)
	o.at += int64(n)
	return n, err
}

// Seek is called by the writer to write the end over half a block.
func (o *output) Seek(offset int64, whence int) (int64, error) {
	at, err := o.File.Seek(offset, whence)
	if err == nil {
		o.at = at
	}
	return at, err
}

func (o *output) keepRoom(n int64) error {
	if o.closed {
		return nil
	}
	n += min(leastRoom+o.at/roomShare, mostRoom)
	if n > o.limit-o.at {
		return unix.EFBIG
	}
	if o.blind {
		return nil
	}
	err := unix.Fallocate(int(o.Fd()), unix.FALLOC_FL_KEEP_SIZE, o.at, n)
	for err == unix.EINTR {
		err = unix.Fallocate(int(o.Fd()), unix.FALLOC_FL_KEEP_SIZE, o.at, n)
	}
	if err == unix.ENOSPC || err == unix.EDQUOT {
		return err
	}
	o.blind = err != nil
	return nil
}

// finish gives back the room that was kept, and closes the file.
func (o *output) finish() error {
	return errors.Join(o.Truncate(o.at), o.Close())
}

// create opens the capture's file: the user's own when run under sudo, for its
// owner only. One that was there stays as it is until [output.begin].
func create(path string, force bool) (*output, error) {
	if err := checkOutput(path, force); err != nil {
		return nil, err
	}
	o := &output{limit: sizeLimit()}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		o.File, o.ours = f, true
		if err = lock(f); err != nil {
			f.Close()
		}
	case force && errors.Is(err, fs.ErrExist):
		err = o.beside(path)
	}
	if err != nil {
		return nil, createError(path, err)
	}
	giveToInvoker(o.File)
	return o, nil
}

// beside makes a file that will take the place of one. It is never opened and emptied
// itself: in a directory that others can write to, it may be a link of theirs to a file of
// this user's, or their own, which they could read.
func (o *output) beside(path string) error {
	old, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err = lock(old); err == nil {
		o.File, o.own, err = temporary(path)
	}
	if err == nil {
		o.old, err = old, lock(o.File)
	}
	if err != nil {
		old.Close()
	}
	return err
}

// temporary makes a file in the directory of a path. It speaks of itself by that path.
func temporary(path string) (*os.File, string, error) {
	t, err := os.CreateTemp(filepath.Dir(path), ".tcap-*")
	if err != nil {
		return nil, "", fmt.Errorf("make a file to take the place of %s: %w", path, err)
	}
	defer t.Close()
	fd, err := unix.FcntlInt(t.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, "", errors.Join(err, os.Remove(t.Name()))
	}
	return os.NewFile(uintptr(fd), path), t.Name(), nil
}

var errRecording = errors.New("another tcap is recording to it")

// lock keeps two recorders from writing to one file, which would leave nothing
// readable. A file system without locks does without.
func lock(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		return errRecording
	}
	return nil
}

// sizeLimit is how large this process may make a file, in bytes. A write beyond
// it would be answered by a signal.
func sizeLimit() int64 {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &lim); err != nil {
		return math.MaxInt64
	}
	return int64(min(lim.Cur, math.MaxInt64))
}

// checkOutput refuses what cannot become a capture: an end is written over what
// a full disk left of the last block, which only a regular file allows.
func checkOutput(path string, force bool) error {
	if fi, err := os.Lstat(path); force && err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("create %s: it is a symbolic link, which --force does not follow; name the file itself", path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil // it is not there, or opening it will tell
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("create %s: it is %s; a capture needs a regular file", path, describe(fi.Mode()))
	}
	for _, std := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if s, err := std.Stat(); force && err == nil && os.SameFile(s, fi) {
			return fmt.Errorf("create %s: it is open as %s, which is the command's; choose another file", path, std.Name())
		}
	}
	return nil
}

func describe(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

func createError(path string, err error) error {
	switch {
	case errors.Is(err, errRecording):
		return fmt.Errorf("create %s: %w", path, err)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("create %s: it exists; use --force to overwrite it", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("create %s: %w: choose a directory you may write to with -o", path, err)
	}
	return fmt.Errorf("create capture: %w", err)
}

// giveToInvoker makes the file belong to who called sudo.
func giveToInvoker(f *os.File) {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil || os.Geteuid() != 0 {
		return
	}
	gid, err := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err != nil {
		gid = -1
	}
	f.Chown(uid, gid) // a file system without owners is no reason to stop
}

// begin puts the file in the place of the one that it is to overwrite, now that
// the recording is known to begin.
func (o *output) begin() error {
	if o.old == nil {
		return nil
	}
	if err := os.Rename(o.own, o.Name()); err != nil {
		return err
	}
	o.ours = true
	err := o.old.Close()
	o.old, o.own = nil, ""
	return err
}

// errRemoved ends a recording whose result nobody could open.
var errRemoved = errors.New("the file was removed")

// check reports a file that has no name any more.
func (o *output) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(o.Fd()), &st); err == nil && st.Nlink == 0 {
		return errRemoved
	}
	return nil
}

// discard removes the file of a recording that did not begin.
func (o *output) discard() {
	switch {
	case o.old != nil:
		os.Remove(o.own)
		o.old.Close()
	case o.ours && o.check() == nil:
		os.Remove(o.Name())
	}
	o.Close()
}
