package capture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A command is the program that is run to be recorded.
type command struct {
	process *os.Process
	release chan struct{}
	ready   chan error
	done    chan int // its exit status as a shell would give it, once
	ended   func()   // called then
}

// launch starts a program and holds it before its first instruction, so that
// probes can be placed before anything of it runs. It is held by ptrace, whose
// stop no parent or terminal sees, and let go of by [command.run].
func launch(argv []string) (*command, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		var lookup *exec.Error // whose text repeats the name
		if errors.As(err, &lookup) {
			err = lookup.Err
		}
		return nil, &CommandError{argv[0], err}
	}
	c := &command{release: make(chan struct{}), ready: make(chan error), done: make(chan int, 1)}
	go c.hold(path, argv)
	if err := <-c.ready; err != nil {
		return nil, &CommandError{argv[0], err}
	}
	return c, nil
}

// hold is the command's goroutine: ptrace answers to one thread only.
func (c *command) hold(path string, argv []string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess(path, argv, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: it is held by ptrace at its start, which fails when tcap itself is being traced (strace -f, gdb)", err)
	}
	if errors.Is(err, unix.ENOEXEC) {
		err = fmt.Errorf("%w: a script begins with #! and its interpreter", err)
	}
	if err != nil {
		c.ready <- err
		return
	}
	c.process = p
	var ws unix.WaitStatus
	if _, err := wait4(p.Pid, &ws); err != nil || !ws.Stopped() {
		if err != nil { // it may be there, and would run as soon as tcap lets go of it
			p.Kill()
			_, _ = wait4(p.Pid, new(unix.WaitStatus))
		}
		c.ready <- fmt.Errorf("hold pid %d: wait status %#x: %v", p.Pid, ws, err)
		return
	}
	// Should tcap be killed now, the program is not to run unrecorded. The
	// option ends with the hold; before 3.8 the program runs.
	_ = unix.PtraceSetOptions(p.Pid, unix.PTRACE_O_EXITKILL)
	c.ready <- nil
	<-c.release
	if err := unix.PtraceDetach(p.Pid); err != nil && err != unix.ESRCH {
		p.Kill()
	}
	c.done <- c.status()
	c.ended()
}

// status waits for the end.
func (c *command) status() int {
	for {
		var ws unix.WaitStatus
		if _, err := wait4(c.process.Pid, &ws); err != nil {
			return 1
		}
		if ws.Exited() {
			return ws.ExitStatus()
		}
		if ws.Signaled() {
			return 128 + int(ws.Signal())
		}
	}
}

func wait4(pid int, ws *unix.WaitStatus) (int, error) {
	for {
		got, err := unix.Wait4(pid, ws, 0, nil)
		if err != unix.EINTR {
			return got, err
		}
	}
}

func (c *command) pid() int { return c.process.Pid }

// run lets the program go. It calls ended when done has the exit status.
func (c *command) run(ended func()) {
	c.ended = ended
	close(c.release)
}

// abandon ends a program that was never let go.
func (c *command) abandon() {
	c.process.Kill()
	c.run(func() {})
	<-c.done
}
