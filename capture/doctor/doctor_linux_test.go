package doctor

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// envExamine makes the test binary print the report as JSON instead of testing.
const envExamine = "TCAP_DOCTOR_EXAMINE"

func TestMain(m *testing.M) {
	if os.Getenv(envExamine) != "" {
		if err := json.NewEncoder(os.Stdout).Encode(Examine()); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// examineAs runs Examine in a process with other rights.
func examineAs(t *testing.T, attr *syscall.SysProcAttr) *Report {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary lies in a directory of root's; a descriptor leads there.
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = append(os.Environ(), envExamine+"=1")
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("examine: %v", err)
	}
	var rep Report
	if err := json.Unmarshal(out, &rep); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return &rep
}

func states(t *testing.T, rep *Report) map[string]Row {
	t.Helper()
	rows := map[string]Row{}
	for _, row := range rep.Rows {
		rows[row.Check] = row
		if row.Found == "" || row.State != OK && row.Cost == "" {
			t.Errorf("%s: %+v says too little", row.Check, row)
		}
	}
	if len(rows) != len(checks) {
		t.Errorf("%d rows for %d checks", len(rows), len(checks))
	}
	return rows
}

func TestRoot(t *testing.T) {
	kerneltest.Require(t)
	rep := Examine()
	rows := states(t, rep)
	if !rep.Heap || !rep.TCP || !rep.CanRecord() {
		t.Errorf("heap %v, tcp %v", rep.Heap, rep.TCP)
	}
	for _, name := range []string{"capabilities", "BTF", "ring buffer", programsRow, tracepointsRow, "tracefs", uprobesRow, "iterators"} {
		if rows[name].State != OK {
			t.Errorf("%s: %+v", name, rows[name])
		}
	}
}

// Whoever has no rights is told so, row by row, with what to do.
func TestNobody(t *testing.T) {
	if os.Geteuid() != 0 {
		kerneltest.Skip(t, "only root can become somebody else")
	}
	const nobody = 65534
	rep := examineAs(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
	rows := states(t, rep)
	if rep.CanRecord() {
		t.Error("it says that nobody can record")
	}
	for _, name := range []string{"capabilities", programsRow, tracepointsRow, uprobesRow} {
		if row := rows[name]; row.State != Missing || row.Fix != runAsRoot {
			t.Errorf("%s: %+v", name, row)
		}
	}
}

// The capabilities that the advice names are enough without root. With fewer
// the report says what is lost.
func TestCapabilities(t *testing.T) {
	kerneltest.Require(t)
	for _, tt := range []struct {
		name      string
		caps      []uintptr
		heap, tcp bool
		ok        string // a row that is in order
		lacking   string // one that is not
	}{
		{"advised", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_DAC_OVERRIDE, unix.CAP_SYS_PTRACE}, true, true, "tracefs", ""},
		{"no ptrace", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_DAC_OVERRIDE}, true, true, "tracefs", "capabilities"},
		{"no tracefs", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE}, false, false, programsRow, "tracefs"},
		{"no BPF", []uintptr{unix.CAP_PERFMON, unix.CAP_DAC_OVERRIDE, unix.CAP_SYS_PTRACE}, false, false, "tracefs", programsRow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const nobody = 65534
			rep := examineAs(t, &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: tt.caps,
			})
			rows := states(t, rep)
			// Debian's kernel keeps perf events to CAP_SYS_ADMIN, and says so.
			perf := rows["perf_event_paranoid"].State == OK
			heap, tcp := tt.heap && perf, tt.tcp && perf
			// Without tracefs, kernels differ in what a uprobe takes.
			if rep.Heap != heap && tt.lacking != "tracefs" || rep.TCP != tcp {
				t.Errorf("perf %v, heap %v, tcp %v: %+v", perf, rep.Heap, rep.TCP, rows[uprobesRow])
			}
			if rows[tt.ok].State != OK || tt.lacking != "" && rows[tt.lacking].State == OK {
				t.Errorf("%+v\n%+v", rows[tt.ok], rows[tt.lacking])
			}
		})
	}
}

func TestParseRelease(t *testing.T) {
	for release, want := range map[string][2]int{
		"6.1.0-18-amd64": {6, 1}, "5.15": {5, 15}, "6.18.44-fc": {6, 18}, "7": {7, 0}, "6.14-rc1": {6, 14}, "": {},
	} {
		if got := parseRelease(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
	m := machine{version: [2]int{6, 1}}
	if !m.atLeast(5, 15) || !m.atLeast(6, 1) || m.atLeast(6, 2) || m.atLeast(7, 0) {
		t.Error("6.1 is compared wrongly")
	}
}

func TestParse(t *testing.T) {
	if got := effective("Name:\tx\nCapEff:\t000000c000000000\nCapBnd:\t1\n"); got != 0xc0<<32 {
		t.Errorf("capabilities %x", got)
	}
	for uidMap, want := range map[string]bool{
		"         0          0 4294967295\n": false, "": false,
		"         0       1000          1\n": true,
		"0 0 1000\n1000 1001 4294966295\n":   true,
	} {
		if got := nested(uidMap); got != want {
			t.Errorf("uid_map %q: nested %v", uidMap, got)
		}
	}
	if got := chosen("none [integrity] confidentiality\n"); got != "integrity" {
		t.Errorf("lockdown %q", got)
	}
	if got := chosen("none"); got != "unknown" {
		t.Errorf("lockdown %q", got)
	}
	set := options([]byte("# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D=n\nCONFIG_E=\"y\"\n"))
	if len(set) != 2 || !set["CONFIG_B"] || !set["CONFIG_C"] {
		t.Errorf("options %v", set)
	}
}

func TestFiltered(t *testing.T) {
	dir := t.TempDir()
	for pid, status := range map[string]string{
		"1": "Name:\ta\nSeccomp:\t0\nSeccomp_filters:\t0\n",
		"2": "Name:\tb\nSeccomp:\t2\nSeccomp_filters:\t1\n",
		"x": "Name:\tc\nSeccomp:\t2\n",
	} {
		if err := os.Mkdir(filepath.Join(dir, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, pid, "status"), []byte(status), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := filtered(dir); n != 1 {
		t.Errorf("%d processes under a filter, want 1", n)
	}
}

func TestReturnProbes(t *testing.T) {
	for version, want := range map[[2]int]State{{6, 10}: OK, {6, 11}: Limited, {6, 13}: Limited, {6, 14}: OK, {7, 0}: OK} {
		m := machine{version: version}
		if got := m.returnProbes().State; got != want && (want == OK || runtime.GOARCH == "amd64") {
			t.Errorf("%v: %s, want %s", version, got, want)
		}
	}
}

func TestHidden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kallsyms")
	for text, want := range map[string]bool{
		"0000000000000000 A fixed\nffffffff81000000 T _text\n": true,
		"0000000000000000 A fixed\n0000000000000000 T _text\n": false,
		"": false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := hasAddresses(path); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
