package tracefs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPoints are where distributions mount tracefs, in the order of use.
// The second is an automount inside debugfs.
var mountPoints = []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

// maxDefinitions bounds how much of uprobe_events RemoveStale reads, in bytes.
const maxDefinitions = 16 << 20

// FS is an open tracefs. Its methods may be called from several goroutines.
type FS struct {
	root     *os.Root
	origin   string // for messages: the mount point, or that it is private
	readOnly error  // why no probe can be defined, or nil
}

// Open opens tracefs: the first mounted one in which probes can be defined,
// else a private mount, else a mounted one that can only be read (EventID
// works there, AddUprobe explains why it does not).
func Open() (*FS, error) {
	var fallback *FS
	var tried []error
	for _, dir := range mountPoints {
		f, err := openDir(dir, dir)
		if err != nil {
			tried = append(tried, err)
			continue
		}
		if f.readOnly == nil {
			return f, nil
		}
		tried = append(tried, f.readOnly)
		if fallback == nil {
			fallback = f
		} else {
			f.Close()
		}
	}
	f, err := openPrivate()
	if err == nil && (f.readOnly == nil || fallback == nil) {
		if fallback != nil {
			fallback.Close()
		}
		return f, nil
	}
	if err == nil {
		f.Close()
	} else {
		tried = append(tried, err)
	}
	if fallback != nil {
		return fallback, nil
	}
	return nil, fmt.Errorf("open tracefs (run as root, or: mount -t tracefs tracefs %s): %w",
		mountPoints[0], errors.Join(tried...))
}

// openDir opens the tracefs whose root is dir.
func openDir(dir, origin string) (*FS, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("look for tracefs at %s: %w", origin, err)
	}
	if int64(st.Type) != unix.TRACEFS_MAGIC {
		return nil, fmt.Errorf("look for tracefs at %s: it is not mounted", origin)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open tracefs at %s: %w", origin, err)
	}
	f := &FS{root: root, origin: origin}
	w, err := f.openDefinitions()
	if err != nil {
		f.readOnly = err
		return f, nil
	}
	w.Close()
	return f, nil
}

// openPrivate mounts a tracefs that is attached to no directory.
func openPrivate() (*FS, error) {
	ctx, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount a private tracefs (fsopen): %w", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, fmt.Errorf("mount a private tracefs (fsconfig): %w", err)
	}
	mnt, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount a private tracefs (fsmount): %w", err)
	}
	// The root keeps the mount alive, the descriptor is only the way to it.
	defer unix.Close(mnt)
	return openDir("/proc/self/fd/"+strconv.Itoa(mnt), "a private mount")
}

// Close releases the file system. Definitions stay until Remove.
func (f *FS) Close() error { return f.root.Close() }

// String says where this tracefs is mounted.
func (f *FS) String() string { return "tracefs at " + f.origin }

// ReadOnly returns nil if probes can be defined, else the reason why not.
func (f *FS) ReadOnly() error { return f.readOnly }

// EventID returns the id of a trace event, which is the config of a
// PERF_TYPE_TRACEPOINT perf event. The error wraps fs.ErrNotExist if this
// kernel has no such event.
func (f *FS) EventID(group, name string) (uint64, error) {
	if err := checkName(group, name); err != nil {
		return 0, err
	}
	data, err := f.root.ReadFile("events/" + group + "/" + name + "/id")
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return 0, fmt.Errorf("read the id of trace event %s:%s (run as root): %w", group, name, err)
		}
		return 0, fmt.Errorf("read the id of trace event %s:%s in %v: %w", group, name, f, err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the id of trace event %s:%s: %w", group, name, err)
	}
	return id, nil
}

// AddUprobe defines the event GROUP/EVENT at a file offset in bytes (not an
// address) of the ELF file at path: on the instruction there or, with ret, on
// the return of the function that starts there. A definition costs nothing
// until a perf event opens it. If the event exists, this place is added to
// it (kernel 5.5 and later), so that one perf event covers both. Add places
// only while no perf event is open on it: the kernel does not set those added
// later, and from 6.12 follows a nil pointer for them.
//
// semaphore, when it is not 0, is the file offset of a counter of 16 bits that the
// kernel raises in the memory of who is probed (since 4.20).
//
// The kernel splits definitions at spaces and offers no quoting. Name such a
// file through a descriptor, as /proc/self/fd/7.
func (f *FS) AddUprobe(group, event, path string, offset uint64, ret bool, semaphore uint64) error {
	if err := checkName(group, event); err != nil {
		return err
	}
	if path == "" || strings.ContainsAny(path, " \t\n\r\v\f") {
		return fmt.Errorf("define uprobe %s/%s: the path %q is empty or has spaces", group, event, path)
	}
	kind := "p"
	if ret {
		kind = "r"
	}
	counter := ""
	if semaphore != 0 {
		counter = fmt.Sprintf("(0x%x)", semaphore)
	}
	return f.define(fmt.Sprintf("%s:%s/%s %s:0x%x%s", kind, group, event, path, offset, counter))
}

// Remove removes the event and every place added to it. All perf events on
// it must have been closed: else the kernel answers EBUSY. The kernel tears
// perf events down with a delay after their last close, so Remove may see
// EBUSY for a moment.
func (f *FS) Remove(group, event string) error {
	if err := checkName(group, event); err != nil {
		return err
	}
	return f.define("-:" + group + "/" + event)
}

// RemoveStale removes the events of every group named PREFIX_PID or
// PREFIX_PID_ANYTHING whose process PID no longer exists, and returns how
// many events it removed. Events that are still open (their owner lives in
// another pid namespace) refuse to go and are left alone.
func (f *FS) RemoveStale(prefix string) (int, error) {
	file, err := f.root.Open("uprobe_events")
	if err != nil {
		return 0, fmt.Errorf("read the uprobe definitions: %w", err)
	}
	defer file.Close()
	removed := 0
	seen := map[string]bool{} // an event with several places has several lines
	lines := bufio.NewScanner(io.LimitReader(file, maxDefinitions))
	var names [][2]string
	for lines.Scan() {
		group, event, ok := parseDefinition(lines.Text())
		if !ok || seen[group+"/"+event] || !stale(group, prefix) {
			continue
		}
		seen[group+"/"+event] = true
		names = append(names, [2]string{group, event})
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read the uprobe definitions: %w", err)
	}
	for _, n := range names {
		switch err := f.Remove(n[0], n[1]); {
		case err == nil:
			removed++
		case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOENT):
			// In use, or another tcap was faster.
		default:
			return removed, err
		}
	}
	return removed, nil
}

// define appends one line to uprobe_events. Opening it without O_APPEND
// would remove every probe on the machine (kernel/trace/trace_uprobe.c,
// probes_open).
func (f *FS) define(line string) error {
	if f.readOnly != nil {
		return f.readOnly
	}
	w, err := f.openDefinitions()
	if err != nil {
		return err
	}
	_, err = w.WriteString(line + "\n")
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %q to uprobe_events: %w", line, err)
	}
	return nil
}

func (f *FS) openDefinitions() (*os.File, error) {
	w, err := f.root.OpenFile("uprobe_events", os.O_WRONLY|os.O_APPEND, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open uprobe_events in %v (the kernel needs CONFIG_UPROBE_EVENTS): %w", f, err)
	case errors.Is(err, unix.EPERM) && os.Geteuid() == 0:
		return nil, fmt.Errorf("open uprobe_events in %v (kernel lockdown or the container forbids it): %w", f, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open uprobe_events in %v (run as root): %w", f, err)
	case err != nil:
		return nil, fmt.Errorf("open uprobe_events in %v: %w", f, err)
	}
	return w, nil
}

// checkName accepts what the kernel does: C identifiers, and here also a
// bound (the kernel's MAX_EVENT_NAME_LEN is 64).
func checkName(names ...string) error {
	for _, s := range names {
		bad := s == "" || len(s) > 63 || s[0] >= '0' && s[0] <= '9'
		for _, r := range s {
			if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				bad = true
			}
		}
		if bad {
			return fmt.Errorf("trace event name %q: want up to 63 letters, digits and underscores", s)
		}
	}
	return nil
}

// parseDefinition reads the names from a line of uprobe_events, as
// "p:group/event /usr/bin/x:0x1234".
func parseDefinition(line string) (group, event string, ok bool) {
	head, _, _ := strings.Cut(line, " ")
	kind, name, ok := strings.Cut(head, ":")
	if !ok || (kind != "p" && kind != "r") {
		return "", "", false
	}
	group, event, ok = strings.Cut(name, "/")
	return group, event, ok && checkName(group, event) == nil
}

// stale reports whether group is PREFIX_PID[_...] of a process that is gone.
func stale(group, prefix string) bool {
	rest, ok := strings.CutPrefix(group, prefix+"_")
	if !ok {
		return false
	}
	digits, _, _ := strings.Cut(rest, "_")
	pid, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || pid <= 0 {
		return false
	}
	return errors.Is(unix.Kill(int(pid), 0), unix.ESRCH)
}
