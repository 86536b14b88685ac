package symbol

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// fileKey identifies a file's content for as long as the recording lasts.
type fileKey struct {
	dev, ino    uint64
	size, mtime int64
}

// keyOf uses the Stat_t fields that Linux and macOS share; their widths differ,
// hence the conversions.
func keyOf(f *os.File) (fileKey, error) {
	info, err := f.Stat()
	if err != nil {
		return fileKey{}, fmt.Errorf("stat module: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileKey{}, errors.New("stat module: no inode number on this system")
	}
	return fileKey{
		dev:   uint64(st.Dev), //nolint:unconvert // int32 on macOS
		ino:   st.Ino,
		size:  info.Size(),
		mtime: info.ModTime().UnixNano(),
	}, nil
}

// ErrNotRegular says that a file is a directory, a pipe or a device.
var ErrNotRegular = errors.New("not a regular file")

// openRegular opens a module and refuses what is no regular file: reading a
// device or a pipe could block the recorder for ever.
func openRegular(open func() (*os.File, error)) (*os.File, error) {
	f, err := open()
	if err != nil {
		return nil, fmt.Errorf("open module: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("stat module: %w", err)
	}
	if !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open module: %s is %w", f.Name(), ErrNotRegular)
	}
	return f, nil
}

// OpenRegular opens a file that is of somebody else's choice, and refuses what is not
// a regular one. O_NONBLOCK keeps a pipe in its place from blocking the open itself.
func OpenRegular(path string) (*os.File, error) {
	return openRegular(func() (*os.File, error) {
		return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	})
}
