package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// readiness is what tells the descriptor of --ready-fd that recording has begun, as s6 and
// others want to be told: by a line, and then its end. If recording does not begin, the
// end alone tells that. nil for 0, which is none.
func readiness(fd int) (func() error, error) {
	if fd == 0 {
		return nil, nil
	}
	if fd < 3 {
		return nil, usagef("record: --ready-fd %d: a descriptor from 3 on, the others have their uses", fd)
	}
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	// What has no type is the Go runtime's own.
	if err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY || st.Mode&unix.S_IFMT == 0 {
		return nil, usagef("record: --ready-fd %d: it is not open to be written; a shell opens it with %d>FILE", fd, fd)
	}
	// It is not the command's, which may go on for longer.
	unix.CloseOnExec(fd)
	return func() error {
		f := os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd))
		defer f.Close()
		if _, err := f.WriteString("ready\n"); err != nil {
			return fmt.Errorf("--ready-fd: %w", err)
		}
		return nil
	}, nil
}
