package unwind

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// tool returns the path of a program that the tests cannot do without.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("TCAP_KERNEL_TESTS") == "1" {
		t.Fatalf("%s is needed: %v", name, err)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func run(t testing.TB, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// build compiles testdata/source.
func build(t testing.TB, compiler, source string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "prog")
	args := append([]string{"-o", out}, flags...)
	run(t, "testdata", compiler, append(args, source)...)
	return out
}

// recording is what testdata/snapshot.py wrote of a program.
type recording struct {
	Stops  []stopped
	Maps   []recordedMap
	Images map[string][]byte // memory of mappings that are no files
}

type stopped struct {
	Regs   map[string]uint64
	Stack  []byte
	Frames []gdbFrame
}

type recordedMap struct {
	Start, End, Offset uint64
	Exec               bool
	Path               string
}

type gdbFrame struct {
	PC   uint64
	Name string
}

// recordStops runs a program under gdb to where the commands lead it, and records
// what is there then, and after each of so many single steps.
func recordStops(t testing.TB, prog string, steps int, commands ...string) *recording {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("what is recorded are registers of amd64")
	}
	out := filepath.Join(t.TempDir(), "recording.json")
	args := []string{"-nx", "-batch"}
	for _, c := range slices.Concat([]string{
		"set debuginfod enabled off", "set startup-with-shell off", "set breakpoint pending on",
		"set confirm off", "handle SIGUSR1 SIGUSR2 nostop noprint pass",
	}, commands, []string{"source testdata/snapshot.py", fmt.Sprintf("python record(%q, 1 << 20, %d)", out, steps)}) {
		args = append(args, "-ex", c)
	}
	cmd := exec.Command(tool(t, "gdb"), append(args, prog)...)
	said, err := cmd.CombinedOutput()
	data, readErr := os.ReadFile(out)
	if readErr != nil {
		t.Fatalf("gdb %s: %v\n%s", prog, err, said)
	}
	r := &recording{}
	if err := json.Unmarshal(data, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// recordedSpace is the mappings of a recording, with their files opened.
type recordedSpace []Mapping

func (s recordedSpace) Code(addr uint64) (Mapping, bool) {
	for _, m := range s {
		if m.Start <= addr && addr < m.End {
			return m, true
		}
	}
	return Mapping{}, false
}

func (r *recording) space(t testing.TB, u *Unwinder) recordedSpace {
	t.Helper()
	modules := map[string]*Module{}
	var s recordedSpace
	for _, m := range r.Maps {
		if !m.Exec {
			continue
		}
		mod := modules[m.Path]
		if image := r.Images[m.Path]; image != nil {
			mod = u.Load(bytes.NewReader(image), m.Path)
		} else if mod == nil && strings.HasPrefix(m.Path, "/") {
			f, err := os.Open(m.Path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			mod = u.Load(f, m.Path)
			modules[m.Path] = mod
		}
		s = append(s, Mapping{m.Start, m.End, m.Offset, mod})
	}
	return s
}

// snapshot is what a probe in BPF would have sent, with all registers.
func (s *stopped) snapshot() *Snapshot {
	g := s.Regs
	return &Snapshot{
		Arch: AMD64, PC: g["rip"], SP: g["rsp"], FP: g["rbp"],
		Regs:  []uint64{g["rbx"], g["r12"], g["r13"], g["r14"], g["r15"]},
		Stack: bytes.Clone(s.Stack),
	}
}

func (s *stopped) pcs() []string {
	var out []string
	for _, f := range s.Frames {
		out = append(out, fmt.Sprintf("%#x", f.PC))
	}
	return out
}

func (s *stopped) names() []string {
	var out []string
	for _, f := range s.Frames {
		out = append(out, f.Name)
	}
	return out
}

func pcs(frames []Frame) []string {
	var out []string
	for _, f := range frames {
		out = append(out, fmt.Sprintf("%#x", f.PC))
	}
	return out
}

func memoryAt(s *Snapshot, at int) uint64 { return binary.LittleEndian.Uint64(s.Stack[at:]) }

func putMemory(s *Snapshot, at int, v uint64) { binary.LittleEndian.PutUint64(s.Stack[at:], v) }
