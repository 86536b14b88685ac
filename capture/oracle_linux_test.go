package capture_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ianlancetaylor/demangle"
	"github.com/klauspost/compress/zstd"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// These are what other tools say of a program's allocations, and tcap's capture in
// the same form: in the order in which they happened, with the functions from the
// innermost to the outermost.

// A site is one allocation.
type site struct {
	size  uint64
	calls []calledBy
}

// A calledBy is a frame: what is inlined comes before what it is inlined into.
type calledBy struct {
	function string // as plain leaves it
	line     uint32 // in the program's own sources, else 0
	inlined  bool
}

// String has the lines where they are known.
func (s *site) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d bytes:", s.size)
	for _, c := range s.calls {
		fmt.Fprintf(&b, " %s", c.function)
		if c.line != 0 {
			fmt.Fprintf(&b, ":%d", c.line)
		}
	}
	return b.String()
}

// physical is the site without what is inlined, and without lines.
func (s site) physical() site {
	out := site{size: s.size}
	for _, c := range s.calls {
		if !c.inlined {
			out.calls = append(out.calls, calledBy{function: c.function})
		}
	}
	return out
}

// has reports whether a function is among the callers.
func (s *site) has(function string) bool {
	return slices.ContainsFunc(s.calls, func(c calledBy) bool { return c.function == function })
}

var (
	// operators are names that look like something else.
	operators = strings.NewReplacer("operator()", "operator_call", "operator<<", "operator_left", "operator<", "operator_less",
		"operator->", "operator_arrow", "operator>", "operator_more", "operator new[]", "operator_new_array",
		"operator new", "operator_new", "operator delete[]", "operator_delete_array", "operator delete", "operator_delete")
	// Rust's closures have a number, or their braces escaped.
	closure     = regexp.MustCompile(`_?\{+closure.*?\}+`)
	rustEscapes = strings.NewReplacer("$u7b$", "{", "$u7d$", "}", " -> ", " ")
	// clone is what compilers and linkers add to the name of a copy.
	clone = regexp.MustCompile(` ?\[(clone|abi).*?\]|\.(isra|part|constprop|cold|lto_priv|llvm)\b[.\d]*|@.*|::h[0-9a-f]{16}$|\{\{vtable\.shim\}\}`)
)

// plain is a function's own name, without namespaces, template arguments, parameters
// and types, which each tool writes in a way of its own; "?" when there is none.
func plain(name string) string {
	if strings.HasPrefix(name, "_R") { // Rust's way, which is too new for heaptrack
		name = demangle.Filter(name)
	}
	name = closure.ReplaceAllString(rustEscapes.Replace(name), "{closure}")
	name = operators.Replace(clone.ReplaceAllString(name, ""))
	var b strings.Builder
	depth := 0
	for _, c := range name {
		switch c {
		case '<', '(':
			depth++
		case '>', ')':
			depth--
		default:
			if depth == 0 {
				b.WriteRune(c)
			}
		}
	}
	name = strings.TrimSuffix(strings.TrimSpace(b.String()), " const")
	name = strings.TrimSuffix(name, "::") // Rust's, before arguments of a function
	if i := strings.LastIndex(name, "::"); i >= 0 {
		name = name[i+2:]
	}
	if strings.HasSuffix(name, "panic_handler") { // Rust's, by what the linker knows it
		name = "rust_begin_unwind"
	}
	if f := strings.Fields(name); len(f) > 0 {
		return strings.TrimLeft(f[len(f)-1], "_") // of which demanglers of Rust take some
	}
	return "?"
}

// ownLine is a line of a test program's own. In headers and libraries, gdb knows only
// lines where statements begin, which may be far from the call.
func ownLine(file string, line uint32) uint32 {
	if strings.HasPrefix(filepath.Base(file), "stack.") {
		return line
	}
	return 0
}

// captured are the allocations of a capture.
func captured(t *testing.T, path string) (list []site) {
	t.Helper()
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc, format.KindRealloc)}) {
		if err != nil {
			t.Fatal(err)
		}
		s := site{size: e.V[format.AllocSize]}
		id := format.StackID(e.V[format.AllocStack])
		if e.Kind == format.KindRealloc {
			s.size, id = e.V[format.ReallocSize], format.StackID(e.V[format.ReallocStack])
		}
		for _, f := range r.Stack(id, nil) {
			s.calls = append(s.calls, calledBy{plain(f.Function), ownLine(f.File, f.Line), f.Inlined})
		}
		list = append(list, s)
	}
	return list
}

// outsideVM skips an oracle on an emulated machine, where it takes minutes and says
// the same.
func outsideVM(t *testing.T, name string) string {
	t.Helper()
	if kerneltest.Repeat(10) == 1 {
		t.Skip(name + " says the same on every kernel")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		kerneltest.Skip(t, name+" is not installed")
	}
	return path
}

// heaptrackMost is how many frames heaptrack has at most: 64 less its own.
const heaptrackMost = 60

// heaptracked are the allocations that heaptrack saw, which preloads a library.
func heaptracked(t *testing.T, argv ...string) []site {
	t.Helper()
	tool := outsideVM(t, "heaptrack")
	out := filepath.Join(t.TempDir(), "heaptrack")
	cmd := exec.Command(tool, append([]string{"-o", out}, argv...)...)
	cmd.Dir = t.TempDir()
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("heaptrack %q: %v\n%s", argv, err, text)
	}
	f, err := os.Open(out + ".zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	h := heaptrackFile{}
	in := bufio.NewScanner(z)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if err := h.line(in.Text()); err != nil {
			t.Fatalf("heaptrack says %q: %v", in.Text(), err)
		}
	}
	if in.Err() != nil || len(h.sites) == 0 {
		t.Fatalf("%d allocations by heaptrack, %v", len(h.sites), in.Err())
	}
	return h.sites
}

// A heaptrackFile is what heaptrack 1.4 writes (its accumulatedtracedata.cpp): lines
// of a letter and hexadecimal numbers, which refer to earlier lines, from 1.
type heaptrackFile struct {
	strings []string
	calls   [][]calledBy    // i: address module, then function file line of each call there
	traces  [][2]uint64     // t: call, trace of the caller
	kinds   []heaptrackKind // a: size, trace
	sites   []site          // +: kind
}

type heaptrackKind struct{ size, trace uint64 }

func (h *heaptrackFile) line(text string) error {
	what, rest, _ := strings.Cut(text, " ")
	if what == "s" {
		_, s, _ := strings.Cut(rest, " ") // its length
		h.strings = append(h.strings, s)
		return nil
	}
	if !slices.Contains([]string{"i", "t", "a", "+"}, what) {
		return nil
	}
	var v []uint64
	for f := range strings.FieldsSeq(rest) {
		n, err := strconv.ParseUint(f, 16, 64)
		if err != nil {
			return err
		}
		v = append(v, n)
	}
	switch what {
	case "i":
		h.calls = append(h.calls, h.call(v[2:]))
	case "t":
		h.traces = append(h.traces, [2]uint64{v[0], v[1]})
	case "a":
		h.kinds = append(h.kinds, heaptrackKind{v[0], v[1]})
	case "+":
		k := h.kinds[v[0]]
		s := site{size: k.size}
		for at := k.trace; at != 0; at = h.traces[at-1][1] {
			s.calls = append(s.calls, h.calls[h.traces[at-1][0]-1]...)
		}
		h.sites = append(h.sites, s)
	}
	return nil
}

// call takes function, file and line of what was inlined at an address, then of the
// function that it is in; the last line may be missing.
func (h *heaptrackFile) call(v []uint64) (out []calledBy) {
	for ; len(v) > 0; v = v[min(3, len(v)):] {
		name := ""
		if v[0] != 0 {
			name = h.strings[v[0]-1]
		}
		out = append(out, calledBy{function: plain(name), inlined: len(v) > 3})
	}
	if len(out) == 0 {
		out = append(out, calledBy{function: "?"})
	}
	return out
}

// debugged are the allocations after main has begun, as gdb sees them.
func debugged(t *testing.T, argv ...string) (list []site) {
	t.Helper()
	tool := outsideVM(t, "gdb")
	out := filepath.Join(t.TempDir(), "gdb.json")
	args := []string{"-nx", "-batch"}
	for _, c := range []string{
		"set debuginfod enabled off", "set startup-with-shell off", "set confirm off", "break main", "run", "delete",
		"source " + stackPrograms + "backtraces.py", fmt.Sprintf("python record(%q)", out),
	} {
		args = append(args, "-ex", c)
	}
	said, err := exec.Command(tool, append(append(args, "--args"), argv...)...).CombinedOutput()
	data, readErr := os.ReadFile(out)
	if readErr != nil {
		t.Fatalf("gdb %q: %v\n%s", argv, err, said)
	}
	var stops []struct {
		Size   uint64
		Frames []struct {
			Name    string
			File    string
			Line    uint32
			Inlined bool
		}
	}
	if err := json.Unmarshal(data, &stops); err != nil {
		t.Fatal(err)
	}
	for _, s := range stops {
		one := site{size: s.Size}
		for _, f := range s.Frames {
			one.calls = append(one.calls, calledBy{plain(f.Name), ownLine(f.File, f.Line), f.Inlined})
		}
		list = append(list, one)
	}
	if len(list) == 0 {
		t.Fatalf("gdb saw no allocation:\n%s", said)
	}
	return list
}
