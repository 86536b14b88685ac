package capture

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// niceness of a recorder. It works a fraction of what its targets do, but a
// target with dozens of busy threads leaves it as small a share of the CPUs as
// one of them, and the ring runs over.
const niceness = -20

// outrun gives this process precedence over its targets, as far as it may, and
// returns what takes it back. Niceness belongs to threads and is inherited, so
// that threads which Go adds later have it too; so have processes that the
// caller starts while recording. The recorded command is running by then.
func outrun() (restore func()) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return func() {}
	}
	before := 20 - raw // the system call's own encoding; see getpriority(2)
	setNiceness(niceness)
	return func() { setNiceness(before) }
}

// setNiceness sets it for every thread, twice to find those that a thread not
// yet reached has made meanwhile. Without CAP_SYS_NICE nothing changes.
func setNiceness(nice int) {
	for range 2 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range tasks {
			if tid, err := strconv.Atoi(t.Name()); err == nil {
				unix.Setpriority(unix.PRIO_PROCESS, tid, nice)
			}
		}
	}
}
