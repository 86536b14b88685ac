package call

import (
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/declare"
)

func TestParseMark(t *testing.T) {
	for args, want := range map[string]Mark{
		"8@%rdi -4@%eax":    {{Slot: x86DI, Index: noSlot, Size: 8}, {Slot: x86AX, Index: noSlot, Size: 4, Signed: true}},
		"-4@$-42":           {{Slot: noSlot, Index: noSlot, Size: 4, Signed: true, Offset: -42}},
		"-2@-16(%rbp)":      {{Slot: x86BP, Index: noSlot, Memory: true, Offset: -16, Size: 2, Signed: true}},
		"1@(%rax,%r10,8)":   {{Slot: x86AX, Index: x86R10, Scale: 3, Memory: true, Size: 1}},
		"2@0x10(%rbx,%rbx)": {{Slot: x86BX, Index: x86BX, Memory: true, Offset: 16, Size: 2}},
		"1@%sil 1@%r8b":     {{Slot: x86SI, Index: noSlot, Size: 1}, {Slot: x86R8, Index: noSlot, Size: 1}},
	} {
		got, err := ParseMark(elf.EM_X86_64, args)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", args, got, err, want)
		}
	}
	for args, want := range map[string]Mark{
		"8@x0 -4@[sp, 12]": {{Slot: 0, Index: noSlot, Size: 8}, {Slot: arm64SP, Index: noSlot, Memory: true, Offset: 12, Size: 4, Signed: true}},
		"4@7":              {{Slot: noSlot, Index: noSlot, Offset: 7, Size: 4}},
	} {
		got, err := ParseMark(elf.EM_AARCH64, args)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", args, got, err, want)
		}
	}
	for args, want := range map[string]string{
		"8@%rdi 8@%xmm0": "arg1 of the mark", "9@%rdi": "cannot be read", "8@%ah": "no register %ah", "4f@%xmm1": "cannot be read",
		"8@lock(%rip)": "of a kind", "8": "cannot be read", "8@99999999999(%rax)": "an offset",
	} {
		mark, err := ParseMark(elf.EM_X86_64, args)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mark.Arg(len(mark) - 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", args, err, want)
		}
	}
	mark, err := ParseMark(elf.EM_X86_64, "8f@%xmm0 4@%edi") // what is behind a fraction can be read
	if err != nil {
		t.Fatal(err)
	}
	if op, err := mark.Arg(1); err != nil || op.Slot != x86DI {
		t.Errorf("%+v, %v", op, err)
	}
	if _, err := mark.Arg(2); err == nil || !strings.Contains(err.Error(), "has 2 arguments") {
		t.Errorf("arg2: %v", err)
	}
}

// FuzzParseMark checks what can be said of any text: what is read is one of the registers
// that the programs have, and a declaration compiles with it or says why not.
func FuzzParseMark(f *testing.F) {
	for _, args := range []string{"8@%rdi -4@$-5 2@-16(%rbp,%rax,4)", "8@x0 -4@[sp, 12] 4@7", "1@%ah", "-8@0x7fffffff(%r15)", "8@[x29,-8]"} {
		f.Add(args, true)
		f.Add(args, false)
	}
	d, err := declare.Parse("usdt:/x:p:n(a=u64(arg0), s=str(arg1->8), c=i8(arg2)) /a == 1/")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, args string, amd64 bool) {
		machine, most := elf.EM_AARCH64, uint8(arm64SP)
		if amd64 {
			machine, most = elf.EM_X86_64, x86SP
		}
		mark, err := ParseMark(machine, args)
		if err == nil && len(mark) != len(splitMark(args)) {
			t.Errorf("%d arguments of %q", len(mark), args)
		}
		for _, op := range mark {
			for _, r := range []uint8{op.Slot, op.Index} {
				if r != noSlot && r > most {
					t.Errorf("register %d of %q", r, args)
				}
			}
			if op.Fault == nil && (op.Size < 1 || op.Size > 8 || op.Scale > 3) {
				t.Errorf("%+v of %q", op, args)
			}
		}
		if p, err := Compile(d, mark); (err == nil) != (p != nil) {
			t.Errorf("compile with %q: %v, %v", args, p, err)
		}
	})
}
