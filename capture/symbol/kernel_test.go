package symbol

import (
	"errors"
	"strings"
	"testing"
)

const sampleKallsyms = `0000000000000000 A fixed_percpu_data
ffffffff81000040 T x86_verw_sel
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000080 D some_data
ffffffff81000090 t do_work
ffffffffc0200000 t nf_hook	[nf_tables]
`

func TestKallsyms(t *testing.T) {
	k, err := parseKallsyms(strings.NewReader(sampleKallsyms))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		addr     uint64
		isReturn bool
		want     Frame
	}{
		{0xffffffff80ffffff, false, Frame{}},
		{0xffffffff81000000, false, Frame{Function: "_stext"}},
		{0xffffffff81000000, true, Frame{}},
		{0xffffffff81000090, true, Frame{Function: "x86_verw_sel", Offset: 0x50}},
		{0xffffffff810000a0, false, Frame{Function: "do_work", Offset: 0x10}},
		{0xffffffffc0200004, false, Frame{Function: "nf_hook [nf_tables]", Offset: 4}},
	} {
		if got := k.Resolve(c.addr, c.isReturn); got != c.want {
			t.Errorf("%#x return=%v: got %+v, want %+v", c.addr, c.isReturn, got, c.want)
		}
	}
	var none *KernelSymbols
	if got := none.Resolve(1, false); got != (Frame{}) {
		t.Errorf("nil KernelSymbols: %+v", got)
	}
}

func TestKallsymsHidden(t *testing.T) {
	_, err := parseKallsyms(strings.NewReader("0000000000000000 T _text\n0000000000000000 T _stext\n"))
	if !errors.Is(err, errHidden) {
		t.Errorf("got %v, want %v", err, errHidden)
	}
}

func TestKallsymsErrors(t *testing.T) {
	for _, text := range []string{"x\n", "1 T\n", "1 TT x\n", "zz T x\n", "1 T " + strings.Repeat("x", maxKallsymsLine)} {
		if _, err := parseKallsyms(strings.NewReader(text)); err == nil {
			t.Errorf("%.20q: no error", text)
		}
	}
}
