package symbol

import (
	"bufio"
	"cmp"
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const libc = "/lib/x86_64-linux-gnu/libc.so.6"

// addr2line returns what binutils says about addresses, "function :line"
// for each frame.
func addr2line(t testing.TB, path string, addrs []uint64) [][]string {
	t.Helper()
	var input strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&input, "%#x\n", a)
	}
	cmd := exec.Command(tool(t, "addr2line"), "-afi", "-e", path)
	cmd.Stdin = strings.NewReader(input.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "0x") {
			all = append(all, nil)
			continue
		}
		function := lines.Text()
		lines.Scan()
		at, _, _ := strings.Cut(lines.Text(), " (discriminator")
		at = strings.Replace(at, ":?", ":0", 1)
		_, line, _ := strings.Cut(at, ":")
		// Names are demangled with the same library: it is not what is
		// compared here.
		all[len(all)-1] = append(all[len(all)-1], fmt.Sprintf("%s :%s", demangled(function), line))
	}
	return all
}

// inFunctions returns n random addresses inside functions of .symtab: between
// them, addr2line names the one before.
func inFunctions(t testing.TB, path string, n int) []uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	symbols = slices.DeleteFunc(symbols, func(s elf.Symbol) bool {
		return elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Size == 0
	})
	random := rand.New(rand.NewPCG(1, 2))
	addrs := make([]uint64, n)
	for i := range addrs {
		s := symbols[random.IntN(len(symbols))]
		addrs[i] = s.Value + random.Uint64N(s.Size)
	}
	return addrs
}

// aliases returns the demangled names of the functions at each address.
func aliases(t testing.TB, path string) map[string]uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]uint64)
	for _, s := range symbols {
		names[demangled(s.Name)] = s.Value
	}
	return names
}

// compareWithAddr2line compares functions and lines of n addresses in m, whose
// debugging information is in the file at debug. Files are compared by
// srcline's own test: addr2line 2.40 names the unit's file where DWARF 5 lines
// come from one that it includes.
func compareWithAddr2line(t *testing.T, path, debug string, m *Module, n int) {
	t.Helper()
	addrs := inFunctions(t, debug, n)
	alias := aliases(t, debug)
	differ, inlined, files := 0, 0, 0
	for i, want := range addr2line(t, debug, addrs) {
		var got []string
		for k, f := range m.Resolve(offsetOf(t, path, addrs[i]), false) {
			name := cmp.Or(f.Function, "??")
			if f.Inlined {
				inlined++
			}
			if f.File != "" {
				files++
			}
			if k < len(want) { // without a function in DWARF, any alias will do
				other, _, _ := strings.Cut(want[k], " :")
				if at, ok := alias[name]; ok && alias[other] == at {
					name = other
				}
			}
			got = append(got, fmt.Sprintf("%s :%d", name, f.Line))
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			if differ++; differ <= 10 {
				t.Errorf("%#x: got\n%s\naddr2line says\n%s", addrs[i], g, w)
			}
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d addresses differ", differ, n)
	}
	t.Logf("%d addresses: %d frames with lines, %d of them inlined", n, files, inlined)
	if files < n/2 || inlined == 0 {
		t.Errorf("%d frames have lines, %d are inlined: too few to tell", files, inlined)
	}
}

func TestLibcAgainstAddr2line(t *testing.T) {
	if _, err := os.Stat(libc); err != nil {
		t.Skip("not Debian on amd64")
	}
	r := newResolver(t, "/usr/lib/debug")
	m := open(t, r, libc)
	if m.load().debug.path == "" {
		if os.Getenv("TCAP_KERNEL_TESTS") == "1" {
			t.Fatal("libc6-dbg is needed")
		}
		t.Skip("libc6-dbg is not installed")
	}
	compareWithAddr2line(t, libc, m.load().debug.path, m, 2000)
}
