package call

import (
	"debug/elf"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/declare"
)

// Texts in a tracepoint's record are where their field says: __data_loc counts from
// the record's beginning, __rel_loc from behind the field; an array is there itself.
func TestTracepointTexts(t *testing.T) {
	site := Tracepoint{
		{Name: "abs", Offset: 8, Size: 4, Loc: true}, {Name: "rel", Offset: 12, Size: 4, RelLoc: true},
		{Name: "here", Offset: 16, Size: 16, Array: true}, {Name: "there", Offset: 32, Size: 8},
		{Name: "addr", Offset: 40, Size: 4, Bytes: true},
	}
	d, err := declare.Parse("tracepoint:a:b(abs, rel, here, t=str(there), ip=ipaddr(addr), n=u32(addr))")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(d, site)
	if err != nil {
		t.Fatal(err)
	}
	const inCtx = uint8(bpf.RawFetchFlagFetchInCtx)
	for i, want := range []bpf.RawFetch{
		{Steps: 1, Size: 2, Flags: inCtx, Off: [5]int32{8, 0}},   // + context
		{Steps: 1, Size: 2, Flags: inCtx, Off: [5]int32{12, 16}}, // 16 on + context
		{Steps: 0, Size: 8, Off: [5]int32{16}},
		{Steps: 1, Size: 8, Off: [5]int32{32, 0}},
		{Steps: 0, Size: 8, Off: [5]int32{40}},
		{Steps: 1, Size: 4, Off: [5]int32{40, 0}},
	} {
		got := p.Raw.Fetch[i]
		if got.Steps != want.Steps || got.Size != want.Size || got.Off != want.Off || got.Flags&inCtx != want.Flags {
			t.Errorf("%s: %+v, want %+v", p.Args[i].Name, got, want)
		}
	}
}

// What is compared has the type that its place says, unless one was declared.
func TestCompareTypes(t *testing.T) {
	trace := Tracepoint{{Name: "ret", Offset: 16, Size: 8, Signed: true}, {Name: "n", Offset: 24, Size: 4}, {Name: "word", Offset: 28, Size: 16, Array: true}}
	mark, err := ParseMark(elf.EM_X86_64, "-4@%edi 8@%rsi 1@%dl")
	if err != nil {
		t.Fatal(err)
	}
	function, err := Function(elf.EM_X86_64, false)
	if err != nil {
		t.Fatal(err)
	}
	const minus2 = ^uint64(1)
	for _, c := range []struct {
		site   Site
		in     string
		op     bpf.RawTermOp
		value  uint64
		signed uint8
		fault  string
	}{
		{trace, "tracepoint:a:b /ret < 0/", bpf.RawTermOpTermLt, 0, 1, ""},
		{trace, "tracepoint:a:b(ret) /ret == -2/", bpf.RawTermOpTermEq, minus2, 1, ""},
		{trace, "tracepoint:a:b(r=ret) /r >= 0/", bpf.RawTermOpTermGe, 0, 1, ""},
		{trace, "tracepoint:a:b /u64(ret) > 2/", bpf.RawTermOpTermGt, 2, 0, ""},
		{trace, "tracepoint:a:b /n < 0/", 0, 0, 0, "n is unsigned"},
		{trace, "tracepoint:a:b /n == 4294967296/", 0, 0, 0, "n is of type u32"},
		{trace, "tracepoint:a:b /word == 1/", 0, 0, 0, "word is a text here"},
		{mark, "usdt:/x:p:n(a=arg0) /a < 0/", bpf.RawTermOpTermLt, 0, 1, ""},
		{mark, "usdt:/x:p:n /arg0 == -2/", bpf.RawTermOpTermEq, minus2, 1, ""},
		{mark, "usdt:/x:p:n /arg1 == -2/", 0, 0, 0, "arg1 is unsigned"},
		{mark, "usdt:/x:p:n /arg2 > 255/", bpf.RawTermOpTermGt, 255, 0, ""},
		{mark, "usdt:/x:p:n /arg2 > 256/", 0, 0, 0, "arg2 is of type u8"},
		{function, "uprobe:/x:f(b=bool(arg0)) /b == true/", bpf.RawTermOpTermNe, 0, 0, ""},
		{function, "uprobe:/x:f /bool(arg0) != 1/", bpf.RawTermOpTermEq, 0, 0, ""},
		{function, "uprobe:/x:f /bool(arg0)/", bpf.RawTermOpTermNe, 0, 0, ""},
		{function, "uprobe:/x:f /bool(arg0) & 1 == 1/", bpf.RawTermOpTermEq, 1, 0, ""},
	} {
		d, err := declare.Parse(c.in)
		var p *Program
		if err == nil {
			p, err = Compile(d, c.site)
		}
		switch {
		case c.fault != "":
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s: got error %v, want %s", c.in, err, c.fault)
			}
		case err != nil:
			t.Errorf("%s: %v", c.in, err)
		default:
			if got := p.Raw.Term[0]; got.Op != uint8(c.op) || got.Value != c.value || got.IsSigned != c.signed {
				t.Errorf("%s: %+v, want %v of %d, signed %d", c.in, got, c.op, int64(c.value), c.signed)
			}
		}
	}
}

// The length of a buf may be a number.
func TestConstantLength(t *testing.T) {
	function, err := Function(elf.EM_X86_64, false)
	if err != nil {
		t.Fatal(err)
	}
	d, err := declare.Parse("uprobe:/x:f(b=buf(arg2, 20k, 16))")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(d, function)
	if err != nil {
		t.Fatal(err)
	}
	length, text := p.Raw.Fetch[0], p.Raw.Fetch[1]
	if length.Base != noSlot || length.Steps != 0 || length.Off[0] != 20<<10 || text.Length != 0 || text.Limit != 16 || p.Args[0].Expr != "arg2, 20480" {
		t.Errorf("length %+v, text %+v, %+v", length, text, p.Args)
	}
	if _, err := declare.Parse("uprobe:/x:f(b=buf(arg2, 4294967296))"); err == nil || !strings.Contains(err.Error(), "too much") {
		t.Errorf("4 GiB: %v", err)
	}
}
