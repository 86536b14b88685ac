package call

import (
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
	}
	d, err := declare.Parse("tracepoint:a:b(abs, rel, here, t=str(there))")
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
	} {
		got := p.Raw.Fetch[i]
		if got.Steps != want.Steps || got.Size != want.Size || got.Off != want.Off || got.Flags&inCtx != want.Flags {
			t.Errorf("%s: %+v, want %+v", p.Args[i].Name, got, want)
		}
	}
}
