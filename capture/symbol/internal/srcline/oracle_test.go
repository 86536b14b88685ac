package srcline

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// load reads the sections of an ELF file.
func load(t testing.TB, path string) (*elf.File, Sections) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s := Sections{Order: f.ByteOrder}
	for name, into := range map[string]*[]byte{
		".debug_info": &s.Info, ".debug_abbrev": &s.Abbrev, ".debug_line": &s.Line, ".debug_str": &s.Str,
		".debug_line_str": &s.LineStr, ".debug_str_offsets": &s.StrOffsets, ".debug_ranges": &s.Ranges,
		".debug_rnglists": &s.RngLists, ".debug_addr": &s.Addr,
	} {
		if section := f.Section(name); section != nil {
			if *into, err = section.Data(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return f, s
}

// oracle answers as Lookup does, with debug/dwarf.
type oracle struct {
	data *dwarf.Data
	t    testing.TB
}

func (o oracle) lookup(addr uint64) []Frame {
	r := o.data.Reader()
	cu, err := r.SeekPC(addr)
	if err != nil {
		return nil
	}
	lr, err := o.data.LineReader(cu)
	if err != nil {
		o.t.Fatal(err)
	}
	var at Frame
	if lr != nil {
		at = o.line(lr, addr)
	}
	chain := o.chain(r, addr)
	if len(chain) == 0 {
		return []Frame{at}
	}
	var frames []Frame
	for i := len(chain) - 1; i >= 0; i-- {
		at.Name = o.name(chain[i])
		frames = append(frames, at)
		at = Frame{}
		if n, ok := chain[i].Val(dwarf.AttrCallFile).(int64); ok {
			at.File = filepath.Clean(lr.Files()[n].Name)
		}
		if n, ok := chain[i].Val(dwarf.AttrCallLine).(int64); ok {
			at.Line = int(n)
		}
	}
	return frames
}

// line reads all rows: LineReader.SeekPC wants sequences by address.
func (o oracle) line(lr *dwarf.LineReader, addr uint64) Frame {
	var at Frame
	var last, row dwarf.LineEntry
	for last.EndSequence = true; ; last = row {
		if err := lr.Next(&row); err != nil {
			return at
		}
		if !last.EndSequence && addr >= last.Address && addr < row.Address {
			at = Frame{File: filepath.Clean(last.File.Name), Line: last.Line}
		}
	}
}

// chain returns the function and inlined calls at an address, outermost first,
// with the reader behind the unit's first entry.
func (o oracle) chain(r *dwarf.Reader, addr uint64) []*dwarf.Entry {
	var chain []*dwarf.Entry
	for depth := 1; depth > 0; {
		e, err := r.Next()
		if err != nil {
			o.t.Fatal(err)
		}
		if e == nil {
			break
		}
		switch e.Tag {
		case 0:
			depth--
			continue
		case dwarf.TagCompileUnit:
			return chain
		case dwarf.TagSubprogram, dwarf.TagInlinedSubroutine:
			ranges, err := o.data.Ranges(e)
			if err != nil {
				o.t.Fatal(err)
			}
			for _, r := range ranges {
				if addr >= r[0] && addr < r[1] {
					if e.Tag == dwarf.TagSubprogram {
						chain = nil // assembly: an alias
					}
					chain = append(chain, e)
					break
				}
			}
		}
		if e.Children {
			depth++
		}
	}
	return chain
}

func (o oracle) name(e *dwarf.Entry) string {
	name := ""
	for e != nil {
		if s, ok := e.Val(dwarf.AttrLinkageName).(string); ok {
			return s
		}
		if s, ok := e.Val(dwarf.AttrName).(string); ok && name == "" {
			name = s
		}
		off, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
		if !ok {
			off, ok = e.Val(dwarf.AttrSpecification).(dwarf.Offset)
		}
		if !ok {
			break
		}
		r := o.data.Reader()
		r.Seek(off)
		var err error
		if e, err = r.Next(); err != nil {
			o.t.Fatal(err)
		}
	}
	return name
}

// compare looks up n random addresses of the code that units cover.
func compare(t *testing.T, s Sections, n int) {
	t.Helper()
	d, err := New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	std, err := dwarf.New(s.Abbrev, nil, nil, s.Info, s.Line, nil, s.Ranges, s.Str)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		".debug_addr": s.Addr, ".debug_line_str": s.LineStr, ".debug_str_offsets": s.StrOffsets, ".debug_rnglists": s.RngLists,
	} {
		if err := std.AddSection(name, data); err != nil {
			t.Fatal(err)
		}
	}
	o := oracle{std, t}
	random := rand.New(rand.NewPCG(3, 4))
	differ, deepest := 0, 0
	for range n {
		r := d.code[random.IntN(len(d.code))]
		addr := r.low + random.Uint64N(r.high-r.low)
		got, _ := d.Lookup(addr)
		want := o.lookup(addr)
		deepest = max(deepest, len(got))
		// debug/dwarf knows no scopes, and does not make directories that
		// are relative to another one complete.
		for i := range min(len(got), len(want)) {
			if strings.HasSuffix(got[i].Name, "::"+want[i].Name) {
				want[i].Name = got[i].Name
			}
			if file := want[i].File; file != "" && !filepath.IsAbs(file) && strings.HasSuffix("/"+got[i].File, "/"+strings.TrimPrefix(file, "../")) {
				want[i].File = got[i].File
			}
		}
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			if differ++; differ <= 5 {
				t.Errorf("%#x: got\n%s\ndebug/dwarf says\n%s", addr, g, w)
			}
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d addresses differ", differ, n)
	}
	if err := d.Err(); err != nil {
		t.Error(err)
	}
	used := workFactor*s.size() + budgetFloor - d.work
	t.Logf("%d addresses, up to %d frames; %d bytes of sections, %.2f times looked at, %.2f times in memory",
		n, deepest, s.size(), float64(used)/float64(s.size()), float64(d.taken)/float64(s.size()))
	if deepest < 2 {
		t.Error("nothing was inlined")
	}
}

func TestAgainstStandardLibrary(t *testing.T) {
	source, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"gcc -g -O2 calls.c",
		"gcc -gdwarf-4 -O2 calls.c",
		"gcc -gdwarf-3 -O2 calls.c",
		"gcc -gdwarf-2 -O2 calls.c",
		"gcc -gdwarf64 -g -O2 calls.c",
		"g++ -g -O2 names.cc",
		"clang-14 -gdwarf-5 -O2 calls.c",
		"clang-14 -gdwarf-4 -O2 calls.c",
	} {
		t.Run(args, func(t *testing.T) {
			prog := filepath.Join(t.TempDir(), "prog")
			words := strings.Fields(args)
			cmd := exec.Command(words[0], append(words[1:], "-o", prog)...)
			cmd.Dir = source
			if _, err := exec.LookPath(words[0]); err != nil && os.Getenv("TCAP_KERNEL_TESTS") != "1" {
				t.Skip(err)
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			_, s := load(t, prog)
			compare(t, s, 100)
		})
	}
	t.Run("go", func(t *testing.T) {
		prog := filepath.Join(t.TempDir(), "prog")
		cmd := exec.Command("go", "build", "-o", prog, "./lines/main.go")
		cmd.Dir = source
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, s := load(t, prog)
		compare(t, s, 100)
	})
	t.Run("libc", func(t *testing.T) {
		f, err := elf.Open("/lib/x86_64-linux-gnu/libc.so.6")
		if err != nil {
			t.Skip("not Debian on amd64")
		}
		defer f.Close()
		note, err := f.Section(".note.gnu.build-id").Data()
		if err != nil {
			t.Fatal(err)
		}
		_, id, _ := bytes.Cut(note, []byte("GNU\x00"))
		debug := fmt.Sprintf("/usr/lib/debug/.build-id/%x/%x.debug", id[:1], id[1:])
		if _, err := os.Stat(debug); err != nil && os.Getenv("TCAP_KERNEL_TESTS") != "1" {
			t.Skip("libc6-dbg is not installed")
		}
		_, s := load(t, debug)
		compare(t, s, 400)
	})
}
