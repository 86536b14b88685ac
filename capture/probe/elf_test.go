package probe

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// testSymbol is a function of a testELF.
type testSymbol struct {
	name  string
	off   uint64 // from the start of the code
	size  uint64
	local bool
	code  []byte
}

// testELF builds a small x86-64 library: headers, then code at file offset
// 0x1000 and address 0x401000, then the tables.
type testELF struct {
	dynsym, symtab []testSymbol
	interp         string
	needed         []string
	runpath        string
	soname         string
	buildID        []byte
}

const (
	testCodeOffset = 0x1000
	testCodeAddr   = 0x401000
	testCodeSize   = 0x1000
)

// bytes lays the file out.
func (te testELF) bytes() []byte {
	var w bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&w, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	body := make([]byte, testCodeSize)
	for _, s := range append(append([]testSymbol(nil), te.dynsym...), te.symtab...) {
		copy(body[s.off:], s.code)
	}
	at := func() uint64 { return testCodeOffset + uint64(len(body)) }
	dynsymOff, dynsym, dynstr := at(), table(te.dynsym), names(te.dynsym)
	body = append(body, dynsym...)
	dynstrOff := at()
	body = append(body, dynstr...)
	symtabOff, symtab, strtab := at(), table(te.symtab), names(te.symtab)
	body = append(body, symtab...)
	strtabOff := at()
	body = append(body, strtab...)
	interpOff := at()
	body = append(body, te.interp+"\x00"...)
	noteOff, note := at(), note(te.buildID)
	body = append(body, note...)
	dynOff, dyn := at(), te.dynamic(testCodeAddr+at()-testCodeOffset)
	body = append(body, dyn...)

	progs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: testCodeOffset, Vaddr: testCodeAddr, Filesz: uint64(len(body)), Memsz: uint64(len(body))},
		{Type: uint32(elf.PT_DYNAMIC), Off: dynOff, Filesz: uint64(len(dyn))},
		{Type: uint32(elf.PT_NOTE), Off: noteOff, Filesz: uint64(len(note)), Align: 4},
	}
	if te.interp != "" {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: interpOff, Filesz: uint64(len(te.interp) + 1)})
	}
	sections := []elf.Section64{{},
		{Type: uint32(elf.SHT_STRTAB), Off: dynstrOff, Size: uint64(len(dynstr))},
		{Type: uint32(elf.SHT_STRTAB), Off: strtabOff, Size: uint64(len(strtab))},
	}
	if te.dynsym != nil {
		sections = append(sections, elf.Section64{Type: uint32(elf.SHT_DYNSYM), Link: 1, Off: dynsymOff, Size: uint64(len(dynsym)), Entsize: 24})
	}
	if te.symtab != nil {
		sections = append(sections, elf.Section64{Type: uint32(elf.SHT_SYMTAB), Link: 2, Off: symtabOff, Size: uint64(len(symtab)), Entsize: 24})
	}
	put(elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64,
		Phoff: 64, Phentsize: 56, Phnum: uint16(len(progs)),
		Shoff: 64 + uint64(56*len(progs)), Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 1,
	})
	put(progs)
	put(sections)
	return append(append(w.Bytes(), make([]byte, testCodeOffset-w.Len())...), body...)
}

func (te testELF) dynamic(addr uint64) []byte {
	// The strings follow the entries.
	text := "\x00"
	var entries []elf.Dyn64
	add := func(tag elf.DynTag, s string) {
		entries = append(entries, elf.Dyn64{Tag: int64(tag), Val: uint64(len(text))})
		text += s + "\x00"
	}
	for _, n := range te.needed {
		add(elf.DT_NEEDED, n)
	}
	if te.runpath != "" {
		add(elf.DT_RUNPATH, te.runpath)
	}
	if te.soname != "" {
		add(elf.DT_SONAME, te.soname)
	}
	strtab := addr + uint64(16*(len(entries)+3))
	entries = append(entries, elf.Dyn64{Tag: int64(elf.DT_STRTAB), Val: strtab},
		elf.Dyn64{Tag: int64(elf.DT_STRSZ), Val: uint64(len(text))}, elf.Dyn64{})
	var w bytes.Buffer
	if err := binary.Write(&w, binary.LittleEndian, entries); err != nil {
		panic(err)
	}
	return append(w.Bytes(), text...)
}

func note(id []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 4)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(id)))
	b = binary.LittleEndian.AppendUint32(b, ntGNUBuildID)
	return append(append(b, "GNU\x00"...), id...)
}

func table(list []testSymbol) []byte {
	var w bytes.Buffer
	at := uint32(1)
	for _, s := range list {
		bind := elf.STB_GLOBAL
		if s.local {
			bind = elf.STB_LOCAL
		}
		sym := elf.Sym64{Name: at, Info: elf.ST_INFO(bind, elf.STT_FUNC), Shndx: 1, Value: testCodeAddr + s.off, Size: s.size}
		if err := binary.Write(&w, binary.LittleEndian, sym); err != nil {
			panic(err)
		}
		at += uint32(len(s.name) + 1)
	}
	return w.Bytes()
}

func names(list []testSymbol) []byte {
	b := []byte{0}
	for _, s := range list {
		b = append(append(b, s.name...), 0)
	}
	return b
}

func (te testELF) open(t testing.TB) *ELF {
	t.Helper()
	b := te.bytes()
	e, err := NewELF(bytes.NewReader(b), int64(len(b)), "/nowhere/test.so")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestELF(t *testing.T) {
	e := testELF{
		dynsym: []testSymbol{{name: "open_me", off: 0x10, size: 8}},
		symtab: []testSymbol{
			{name: "twice", off: 0x20, local: true}, {name: "twice", off: 0x30, local: true},
			{name: "mixed", off: 0x40, local: true}, {name: "mixed", off: 0x50},
			{name: "read@GLIBC_2.0", off: 0x60}, {name: "read@@GLIBC_2.2.5", off: 0x70},
		},
		interp: "/lib64/ld.so", needed: []string{"libc.so.6", "libm.so.6"}, runpath: "$ORIGIN/../lib:/opt", soname: "me.so",
		buildID: []byte{0xab, 0xcd, 1, 2},
	}.open(t)
	for name, off := range map[string]uint64{"open_me": 0x10, "mixed": 0x50, "read": 0x70} {
		s, err := e.Lookup(name)
		if err != nil || s.Offset != testCodeOffset+off || s.Addr != testCodeAddr+off {
			t.Errorf("Lookup(%s) = %+v, %v; want offset 0x%x", name, s, err, testCodeOffset+off)
		}
	}
	if _, err := e.Lookup("twice"); err == nil || !strings.Contains(err.Error(), "0x401020, 0x401030") {
		t.Errorf("ambiguous name: %v", err)
	}
	if s, err := e.Lookup("0x401030"); err != nil || s.Name != "twice" || s.Offset != testCodeOffset+0x30 {
		t.Errorf("by address: %+v, %v", s, err)
	}
	if s, err := e.Lookup("0x401033"); err != nil || s.Size != 0 || s.Offset != testCodeOffset+0x33 {
		t.Errorf("by address inside a function: %+v, %v", s, err)
	}
	if _, err := e.Lookup("0x33"); err == nil {
		t.Error("an address without code was accepted")
	}
	if _, err := e.Lookup("open-me"); !errors.Is(err, ErrNoSymbol) || !strings.Contains(err.Error(), "open_me") {
		t.Errorf("unknown name: %v", err)
	}
	list, err := e.Glob("*e*")
	if err != nil || len(list) != 7 || list[0].Name != "mixed" {
		t.Errorf("Glob = %+v, %v", list, err)
	}
	if _, err := e.Glob("[a"); err == nil {
		t.Error("a bad pattern was accepted")
	}
	d, err := e.Dynamic()
	if err != nil || strings.Join(d.Needed, " ") != "libc.so.6 libm.so.6" || strings.Join(d.RunPath, " ") != "$ORIGIN/../lib /opt" || d.SoName != "me.so" {
		t.Errorf("Dynamic = %+v, %v", d, err)
	}
	if e.BuildID() != "abcd0102" || e.Interp() != "/lib64/ld.so" {
		t.Errorf("build-id %q, interp %q", e.BuildID(), e.Interp())
	}
}

// TestDebugFile takes names from a separate file and offsets from the program.
func TestDebugFile(t *testing.T) {
	dir := t.TempDir()
	id := []byte{1, 2, 3, 4}
	debug := filepath.Join(dir, "x.debug")
	if err := os.WriteFile(debug, testELF{symtab: []testSymbol{{name: "hidden", off: 0x80, size: 4}}, buildID: id}.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenELF(debug)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	home := testELF{buildID: id}.open(t)
	var got []Symbol
	if _, err := d.scan(elf.SHT_SYMTAB, home, func(s Symbol) bool { got = append(got, s); return true }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Offset != testCodeOffset+0x80 {
		t.Errorf("got %+v", got)
	}
}

func TestAllocatorFunctions(t *testing.T) {
	jmp := func(from, to int32) []byte {
		return binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(to-from-5))
	}
	family := []testSymbol{
		{name: "malloc", off: 0x00, size: 2, code: []byte("\x55\xc3")},
		{name: "memalign", off: 0x10, size: 2, code: []byte("\x55\xc3")},
		{name: "aligned_alloc", off: 0x10, size: 2},
		{name: "cfree", off: 0x100, size: uint64(len(glibcFree)), code: glibcFree},
		{name: "free", off: 0x100, size: uint64(len(glibcFree))},
		{name: "_ZdlPv", off: 0x20, size: 5, code: jmp(0x20, 0x100)},
		{name: "_Znwm", off: 0x30, size: 2, code: []byte("\x55\xc3")},
	}
	fns, err := AllocatorFunctions(testELF{dynsym: family}.open(t), "test", false)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		name, aliases string
		fn            uint8
		off           uint64
	}
	var got []row
	for _, f := range fns {
		got = append(got, row{f.Name, strings.Join(f.Aliases, " "), f.Fn, f.Entry.Offset})
		if f.HasReturn() && (!f.Return.Return || f.Return.Offset != f.Entry.Offset) {
			t.Errorf("%s: return point %+v", f.Name, f.Return)
		}
	}
	want := []row{
		{"malloc", "", format.FnMalloc, 0x1000}, {"aligned_alloc", "memalign", format.FnAlignedAlloc, 0x1010},
		{"free", "cfree", format.FnFree, 0x1103}, {"_Znwm", "", format.FnNew, 0x1030},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	for name, te := range map[string]testELF{
		"plain libstdc++":        {dynsym: family[5:]},
		"the dynamic loader":     {dynsym: family, soname: "ld-linux-x86-64.so.2"},
		"a static function free": {symtab: []testSymbol{{name: "free", off: 0, size: 1, local: true}, {name: "malloc", off: 8, size: 1, local: true}}},
	} {
		if fns, err := AllocatorFunctions(te.open(t), "test", false); err != nil || len(fns) != 0 {
			t.Errorf("%s: %d functions, %v; want none", name, len(fns), err)
		}
	}
}

// TestCookie pins what the BPF programs rely on.
func TestCookie(t *testing.T) {
	f := Function{Fn: format.FnRealloc, Shape: allocatorNames["realloc"].shape}
	if got := f.Cookie(); got != 5<<8|format.FnRealloc {
		t.Errorf("cookie %#x", got)
	}
	f.Forwards = true
	if got := f.Cookie(); got != CookieForwards|5<<8|format.FnRealloc {
		t.Errorf("cookie %#x", got)
	}
}

// exerciseELF calls everything that reads an ELF file.
func exerciseELF(e *ELF) {
	n := 0
	_ = e.each(false, func(s Symbol) bool {
		_, _ = e.Code(s.Offset, 64)
		n++
		return n < 1000
	})
	_, _ = e.Lookup("free")
	_, _ = e.Glob("*")
	_, _ = e.Dynamic()
	_, _ = AllocatorFunctions(e, "fuzz", false)
	_, _ = e.BuildID(), e.Interp()
	if d := e.debugFile(); d != nil {
		d.Close()
	}
}

func FuzzELF(f *testing.F) {
	f.Add(testELF{
		dynsym: []testSymbol{{name: "malloc", off: 0, size: 2}, {name: "free", off: 0x100, size: 0x80, code: glibcFree}},
		symtab: []testSymbol{{name: "free", off: 0x100, size: 9}}, interp: "/ld", needed: []string{"libc.so.6"},
		buildID: []byte{1, 2, 3, 4},
	}.bytes())
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := NewELF(bytes.NewReader(data), int64(len(data)), "/nowhere/fuzz")
		if err == nil {
			exerciseELF(e)
		}
	})
}

// TestDamagedELF cuts a file everywhere and flips every header byte.
func TestDamagedELF(t *testing.T) {
	good := testELF{dynsym: []testSymbol{{name: "malloc", off: 0, size: 2}, {name: "free", off: 8, size: 2}}, interp: "/ld", needed: []string{"a"}}.bytes()
	try := func(data []byte) {
		if e, err := NewELF(bytes.NewReader(data), int64(len(data)), "/nowhere/damaged"); err == nil {
			exerciseELF(e)
		}
	}
	for n := 0; n < len(good); n += 7 {
		try(good[:n])
	}
	for i := range 64 + 56*4 + 64*5 {
		for _, v := range []byte{0x00, 0x7f, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] = v
			try(bad)
		}
	}
}

func FuzzLDCache(f *testing.F) {
	b := append([]byte("ld.so-1.7.0\x00junk"), ldCacheMagic...)
	b = binary.NativeEndian.AppendUint32(b, 1)
	b = append(b, make([]byte, 24)...)
	b = binary.NativeEndian.AppendUint32(b, 3)
	b = binary.NativeEndian.AppendUint32(b, 72)
	b = binary.NativeEndian.AppendUint32(b, 80)
	b = append(b, make([]byte, 12)...)
	b = append(b, "libx.so\x00/lib/libx.so\x00"...)
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, paths := range parseLDCache(data) {
			if name == "" || len(paths) == 0 || paths[0][0] != '/' {
				t.Errorf("entry %q: %q", name, paths)
			}
		}
	})
	if got := parseLDCache(b)["libx.so"]; len(got) != 1 || got[0] != "/lib/libx.so" {
		f.Errorf("seed parsed as %q", got)
	}
}
