package doctor

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/tracefs"
)

func newMachine() *machine {
	m := &machine{}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.release = unix.ByteSliceToString(uts.Release[:])
		m.version = parseRelease(m.release)
	}
	status, _ := os.ReadFile("/proc/self/status")
	m.caps = effective(string(status))
	uids, _ := os.ReadFile("/proc/self/uid_map")
	m.nested = nested(string(uids))
	m.fs, m.fsErr = tracefs.Open()
	return m
}

// parseRelease reads the version from a release as "6.1.0-18-amd64".
func parseRelease(release string) (v [2]int) {
	for i, s := range strings.SplitN(release, ".", 3) {
		if i == len(v) {
			break
		}
		end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(s)
		}
		v[i], _ = strconv.Atoi(s[:end])
	}
	return v
}

// effective reads the effective capabilities from /proc/PID/status.
func effective(status string) uint64 {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, _ := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return caps
		}
	}
	return 0
}

// nested reports whether a uid_map is that of a user namespace other than the
// machine's own, which maps all ids to themselves.
func nested(uidMap string) bool {
	f := strings.Fields(uidMap)
	return len(f) > 0 && (len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295")
}

func (m *machine) has(c uint) bool { return m.caps>>c&1 != 0 }

// atLeast reports whether the kernel is that version or later.
func (m *machine) atLeast(major, minor int) bool {
	return m.version[0] > major || m.version[0] == major && m.version[1] >= minor
}

// privileged reports whether the kernel lets this process load programs and
// open perf events.
func (m *machine) privileged() bool {
	return m.has(unix.CAP_SYS_ADMIN) || m.has(unix.CAP_BPF) && m.has(unix.CAP_PERFMON)
}

func (m *machine) kernel() Row {
	row := Row{State: OK, Found: fmt.Sprintf("Linux %s on %s", m.release, runtime.GOARCH)}
	if !m.atLeast(5, 15) {
		row.State = Missing
		row.Cost, row.Fix = "probes cannot tell which function they belong to (BPF cookies came with 5.15)", "use Linux 5.15 or later"
	}
	return row
}

func (m *machine) capabilities() Row {
	var have, lack []string
	for _, c := range []struct {
		name string
		bit  uint
	}{
		{"CAP_BPF", unix.CAP_BPF}, {"CAP_PERFMON", unix.CAP_PERFMON}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
		{"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE}, {"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},
		{"CAP_SYS_RESOURCE", unix.CAP_SYS_RESOURCE},
	} {
		if m.has(c.bit) {
			have = append(have, c.name)
		} else {
			lack = append(lack, c.name)
		}
	}
	row := Row{State: OK, Found: "has " + strings.Join(have, ", ")}
	if len(have) == 0 {
		row.Found = "has none"
	} else if len(lack) > 0 {
		row.Found += "; not " + strings.Join(lack, ", ")
	}
	switch {
	case m.nested && m.privileged():
		row.Found += "; but in a user namespace, where the kernel does not count them"
		fallthrough
	case !m.privileged():
		row.State, row.Fix = Missing, runAsRoot
		row.Cost = "nothing can be recorded: that takes CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN"
	case !m.has(unix.CAP_SYS_PTRACE):
		row.State, row.Fix = Limited, "add CAP_SYS_PTRACE, or run as root"
		row.Cost = "the heap of other users' processes: their mappings cannot be read"
	}
	return row
}

func (m *machine) lockdown() Row {
	text, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return Row{State: OK, Found: "off"}
	}
	mode := chosen(string(text))
	row := Row{State: OK, Found: mode}
	if mode == "confidentiality" {
		row.State = Missing
		row.Cost = "BPF programs may not read memory, and tracefs is closed (kernel lockdown)"
		row.Fix = "boot with lockdown=integrity or without Secure Boot"
	}
	return row
}

// chosen returns the word in brackets of "none [integrity] confidentiality".
func chosen(s string) string {
	_, s, _ = strings.Cut(s, "[")
	s, _, ok := strings.Cut(s, "]")
	if !ok {
		return "unknown"
	}
	return s
}

func sysctl(name string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(b)), err
}

func (m *machine) unprivileged() Row {
	v, err := sysctl("kernel/unprivileged_bpf_disabled")
	switch {
	case err != nil:
		return Row{State: OK, Found: "this kernel has no such setting"}
	case m.privileged():
		return Row{State: OK, Found: v + ", which does not matter with these capabilities"}
	}
	return Row{State: Missing, Found: v, Cost: "tcap's BPF programs take CAP_BPF, whatever this says", Fix: runAsRoot}
}

// paranoid opens a perf event, since kernels differ in what a value means: with
// 3, Debian's grants perf events to CAP_SYS_ADMIN alone.
func (m *machine) paranoid() Row {
	v, err := sysctl("kernel/perf_event_paranoid")
	if err != nil {
		v = "no such setting"
	}
	row := tried(perfEvent(unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_DUMMY), v+", which lets tcap open perf events",
		"nothing can be recorded but the lives of processes", "run as root, or: sysctl kernel.perf_event_paranoid=2")
	if row.State != OK && m.privileged() {
		row.Found, row.Fix = v+", with which this kernel wants CAP_SYS_ADMIN", "run as root, or: sysctl kernel.perf_event_paranoid=2"
	} else if row.State != OK {
		row.Found = v
	}
	return row
}

// perfEvent opens and closes a perf event on a CPU, for all tasks.
func perfEvent(typ uint32, config uint64) error {
	attr := unix.PerfEventAttr{Type: typ, Config: config, Size: unix.PERF_ATTR_SIZE_VER1, Bits: unix.PerfBitDisabled}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("perf_event_open: %w", err)
	}
	return unix.Close(fd)
}

func (m *machine) memlock() Row {
	if m.atLeast(5, 11) {
		return Row{State: OK, Found: "not counted for BPF since Linux 5.11"}
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil || lim.Cur != unix.RLIM_INFINITY {
		return Row{State: Limited, Found: fmt.Sprintf("%d bytes", lim.Cur),
			Cost: "the ring and the maps may not fit", Fix: "ulimit -l unlimited, or add CAP_SYS_RESOURCE"}
	}
	return Row{State: OK, Found: "unlimited"}
}

func (m *machine) files() Row {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return Row{State: Limited, Found: reason(err), Cost: "unknown"}
	}
	const enough = 16384
	row := Row{State: OK, Found: fmt.Sprintf("at most %d", lim.Max)}
	if lim.Max < enough {
		row.State = Limited
		row.Cost = "following children takes a descriptor per thread and probe: targets with hundreds of threads do not fit"
		row.Fix = "ulimit -Hn 65536 as root before tcap"
	}
	return row
}

func (m *machine) jit() Row {
	v, err := sysctl("net/core/bpf_jit_enable")
	if err == nil && v == "0" {
		return Row{State: Limited, Found: "off", Cost: "programs are interpreted: each event costs several times more",
			Fix: "sysctl net.core.bpf_jit_enable=1"}
	}
	if errors.Is(err, os.ErrPermission) {
		return Row{State: OK, Found: "cannot be read without root; on unless somebody turned it off"}
	}
	if err != nil {
		return Row{State: OK, Found: "no setting: always on or not there; the config below tells"}
	}
	return Row{State: OK, Found: "on"}
}

func (m *machine) kernelSymbols() Row {
	named, err := hasAddresses("/proc/kallsyms")
	v, _ := sysctl("kernel/kptr_restrict")
	if err == nil && named {
		return Row{State: OK, Found: "readable (kptr_restrict is " + v + ")"}
	}
	found := "addresses are hidden (kptr_restrict is " + v + ")"
	if err != nil {
		found = reason(err)
	}
	return Row{State: Limited, Found: found, Cost: "frames in the kernel have no names",
		Fix: "run as root, or add CAP_SYSLOG, with sysctl kernel.kptr_restrict=1"}
}

// hasAddresses reports whether a kallsyms file shows addresses.
func hasAddresses(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for range 100 { // the first ones may be per-CPU symbols, which lie at 0
		if !lines.Scan() {
			break
		}
		addr, _, _ := strings.Cut(lines.Text(), " ")
		if strings.Trim(addr, "0") != "" {
			return true, nil
		}
	}
	return false, lines.Err()
}

// wanted are the options of a kernel that tcap makes use of.
var wanted = []struct{ option, cost string }{
	{"BPF_SYSCALL", "nothing can be recorded"},
	{"BPF_JIT", "each event costs several times more"},
	{"BPF_EVENTS", "nothing can be recorded"},
	{"DEBUG_INFO_BTF", "nothing can be recorded"},
	{"PERF_EVENTS", "nothing can be recorded"},
	{"UPROBE_EVENTS", "no heap"},
	{"FTRACE_SYSCALLS", "no TCP, no mappings (mmap, brk)"},
	{"PROC_CHILDREN", "children that are forked while probes are placed may be missed"},
}

func (m *machine) config() Row {
	text, path, err := kernelConfig(m.release)
	if err != nil {
		return Row{State: OK, Found: "not published (" + reason(err) + "); the rows above were tried"}
	}
	set := options(text)
	var lack, costs []string
	for _, w := range wanted {
		if !set["CONFIG_"+w.option] {
			lack = append(lack, "CONFIG_"+w.option)
			costs = append(costs, w.cost)
		}
	}
	if len(lack) == 0 {
		return Row{State: OK, Found: path + " has all that is used"}
	}
	return Row{State: Limited, Found: path + " lacks " + strings.Join(lack, ", "),
		Cost: strings.Join(costs, "; "), Fix: "use a kernel with these options"}
}

// maxConfig bounds a kernel configuration, bytes. Real ones have 0.3 MB.
const maxConfig = 8 << 20

// kernelConfig reads the configuration where kernels and distributions publish it.
func kernelConfig(release string) (text []byte, path string, err error) {
	path = "/proc/config.gz"
	if f, err := os.Open(path); err == nil {
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, path, fmt.Errorf("read %s: %w", path, err)
		}
		text, err = io.ReadAll(io.LimitReader(z, maxConfig))
		return text, path, err
	}
	path = "/boot/config-" + filepath.Base(release)
	f, err := os.Open(path)
	if err != nil {
		return nil, path, err
	}
	defer f.Close()
	text, err = io.ReadAll(io.LimitReader(f, maxConfig))
	return text, path, err
}

// options returns what a configuration sets to y or m.
func options(config []byte) map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(string(config)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && (value == "y" || value == "m") {
			set[name] = true
		}
	}
	return set
}
