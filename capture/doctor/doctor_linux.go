package doctor

import (
	"errors"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/tcap-dev/tcap/capture/tracefs"
)

// A check is a row of the table of checks.
type check struct {
	name string
	run  func(m *machine) Row // fills in all but the name
}

// checks are in the order of the report: the cause of a failure stands before
// what fails by it.
var checks = []check{
	{"kernel", (*machine).kernel},
	{"capabilities", (*machine).capabilities},
	{"lockdown", (*machine).lockdown},
	{"unprivileged BPF", (*machine).unprivileged},
	{"perf_event_paranoid", (*machine).paranoid},
	{"locked memory", (*machine).memlock},
	{"open files", (*machine).files},
	{"BTF", (*machine).btf},
	{"BPF JIT", (*machine).jit},
	{"ring buffer", (*machine).ringbuf},
	{"BPF helpers", (*machine).helpers},
	{programsRow, (*machine).programs},
	{tracepointsRow, (*machine).btfTracepoints},
	{"tracefs", (*machine).tracefs},
	{syscallsRow, (*machine).syscallTracepoints},
	{uprobesRow, (*machine).uprobes},
	{"return probes", (*machine).returnProbes},
	{"iterators", (*machine).iterators},
	{"fentry", (*machine).fentry},
	{"kprobes", (*machine).kprobes},
	{"kernel symbols", (*machine).kernelSymbols},
	{"kernel config", (*machine).config},
}

// Rows that decide what can be recorded.
const (
	programsRow    = "tcap's programs"
	tracepointsRow = "BTF tracepoints"
	syscallsRow    = "syscall tracepoints"
	uprobesRow     = "uprobes"
)

// A machine is what the checks know of this one.
type machine struct {
	version [2]int // of the kernel
	release string
	caps    uint64 // effective
	nested  bool   // in a user namespace, where the kernel does not count caps
	fs      *tracefs.FS
	fsErr   error
}

// Examine checks this machine.
func Examine() *Report {
	// Before 5.11 this decides; row "locked memory" tells.
	_ = rlimit.RemoveMemlock()
	m := newMachine()
	if m.fs != nil {
		defer m.fs.Close()
	}
	rep := &Report{}
	for _, c := range checks {
		row := c.run(m)
		row.Check = c.name
		if row.State == OK {
			row.Cost, row.Fix = "", ""
		}
		rep.Rows = append(rep.Rows, row)
	}
	works := func(name string) bool {
		row, ok := rep.row(name)
		return ok && row.State != Missing
	}
	base := works(programsRow) && works(tracepointsRow)
	rep.TCP = base && works(syscallsRow)
	rep.Heap = base && works(uprobesRow)
	return rep
}

// runAsRoot is advice for the rights that a recording needs. CAP_DAC_OVERRIDE
// opens tracefs, which belongs to root; without it a uprobe takes
// CAP_SYS_ADMIN (Linux 6.18).
const runAsRoot = "run tcap as root, or once: setcap 'cap_bpf,cap_perfmon+ep cap_dac_override,cap_sys_ptrace+ep' tcap"

// tried is the row of something that was tried.
func tried(err error, found, cost, fix string) Row {
	if err == nil {
		return Row{State: OK, Found: found}
	}
	row := Row{State: Missing, Found: reason(err), Cost: cost, Fix: fix}
	if errors.Is(err, os.ErrPermission) {
		row.Fix = runAsRoot
	}
	return row
}

// reason is an error in one line.
func reason(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "not permitted"
	case errors.Is(err, ebpf.ErrNotSupported):
		return "this kernel does not have it"
	}
	return line(err)
}

// line is the first line of an error, as far as it fits a table.
func line(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
