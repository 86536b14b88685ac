package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// An output is the file of a capture.
type output struct {
	*os.File
	// ours is set once the file holds nothing but what this recording wrote, so
	// that an attempt which comes to nothing may remove it.
	ours bool

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
// owner only. One that was there keeps its content until [output.begin].
func create(path string, force bool) (*output, error) {
	if err := checkOutput(path, force); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	fresh := err == nil
	if force && errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, createError(path, err)
	}
	// Two recorders that write to one file would leave nothing readable. A file
	// system without locks does without.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		f.Close()
		return nil, fmt.Errorf("create %s: another tcap is recording to it", path)
	}
	giveToInvoker(f)
	return &output{File: f, ours: fresh, limit: sizeLimit()}, nil
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

// begin empties the file, now that the recording is known to begin.
func (o *output) begin() error {
	if o.ours {
		return nil
	}
	err := o.Truncate(0)
	o.ours = err == nil
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
	if o.ours && o.check() == nil {
		os.Remove(o.Name())
	}
	o.Close()
}
