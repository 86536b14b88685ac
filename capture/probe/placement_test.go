package probe

import (
	"debug/elf"
	"strings"
	"testing"
)

// glibcFree is free of Debian 12's glibc 2.36, up to its first cold part.
var glibcFree = []byte("\x48\x85\xff\x0f\x84\xbf\x00\x00\x00\x55\x48\x8d\x77\xf0\x53\x48" +
	"\x83\xec\x18\x48\x8b\x1d\xd6\x9e\x13\x00\x48\x8b\x47\xf8\x64\x8b" +
	"\x2b\xa8\x02\x75\x5b\x48\x8b\x15\x5c\x9e\x13\x00\x64\x48\x83\x3a" +
	"\x00\x0f\x84\x99\x00\x00\x00\x48\x8d\x3d\x32\xad\x13\x00\xa8\x04" +
	"\x74\x26\x48\x8b\x15\x37\xa4\x13\x00\x48\x8d\x04\x95\x00\x00\x00" +
	"\x00\x48\xf7\xd8\x48\x85\xd2\x48\xc7\xc2\x00\x00\x00\xfc\x48\x0f" +
	"\x44\xc2\x48\x21\xf0\x48\x8b\x38\x31\xd2\xe8\xc1\xd1\xff\xff\x64" +
	"\x89\x2b\x48\x83\xc4\x18\x5b\x5d\xc3\x0f\x1f\x80\x00\x00\x00\x00" +
	"\x8b\x15\x12\xa4\x13\x00\x85\xd2\x75\x26\x48\x39\x05\xcf\xa3\x13" +
	"\x00\x73\x1d\x48\x3d\x00\x00\x00\x02\x77\x15\x48\x83\xe0\xf8\x48" +
	"\x89\x05\xba\xa3\x13\x00\x48\x01\xc0\x48\x89\x05\xa0\xa3\x13\x00" +
	"\x48\x89\xf7\xe8\x08\xba\xff\xff\x64\x89\x2b\x48\x83\xc4\x18\x5b" +
	"\x5d\xc3\x66\x0f\x1f\x44\x00\x00\xc3\x0f\x1f\x80\x00\x00\x00\x00")

// glibcMalloc is how malloc starts there.
var glibcMalloc = []byte("\x41\x54\x55\x53\x48\x89\xfb\x48\x83\xec\x10\x80\x3d\x46\x1b\x14" +
	"\x00\x00\x0f\x84\xf8\x01\x00\x00\x48\x85\xdb\x0f\x88\xfd\x01\x00" +
	"\x00\x48\x8d\x43\x17\x31\xed\x48\x83\xf8\x1f\x76\x0c\x48\x83\xe0" +
	"\xf0\x48\x8d\x68\xef\x48\xc1\xed\x04\x4c\x8b\x25\x08\xa4\x13\x00")

func TestPlace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		code  string
		delta uint64
		class Class
		insn  string
		why   string
	}{
		{"glibc free", string(glibcFree), 3, Emulated, "je +200", "first"},
		{"glibc malloc", string(glibcMalloc), 0, Emulated, "push %r12", "kernel emulates"},
		{"endbr64, then push", "\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\xc3", 4, Emulated, "push %rbp", "first"},
		{"endbr64, then an argument is written", "\xf3\x0f\x1e\xfa\x48\x89\xf7\x55\xc3", 0, SingleStep, "endbr64", "mov %rsi,%rdi at +4"},
		{"a jump back into the range", "\x48\x85\xff\x74\x02\x75\xfc\xc3", 0, SingleStep, "test %rdi,%rdi", "branches to +3"},
		{"a jump back to the entry", "\x48\x85\xff\x74\x02\x75\xf9\xc3", 3, Emulated, "je +7", "first"},
		{"a jump through a register", "\x48\x85\xff\x74\x02\xff\xe0\xc3", 0, SingleStep, "test %rdi,%rdi", "anywhere"},
		{"a tail call through the GOT", "\x48\x85\xff\x74\x06\xff\x25\x00\x00\x00\x00\xc3", 3, Emulated, "je +11", "first"},
		{"the stack moves", "\x48\x83\xec\x18\x74\x00\xc3", 0, SingleStep, "sub $0x18,%rsp", "may change"},
		{"the frame pointer is written", "\x48\x89\xe5\x50\xc3", 0, SingleStep, "mov %rsp,%rbp", "may change"},
		{"memory is written", "\x48\x89\x07\x50\xc3", 0, SingleStep, "mov %rax,(%rdi)", "may change"},
		{"an argument's low byte is written", "\x40\xb7\x01\x50\xc3", 0, SingleStep, "mov $0x1,%dil", "may change"},
		{"a scratch register is written", "\x64\x48\x8b\x04\x25\x28\x00\x00\x00\x50\xc3", 9, Emulated, "push %rax", "first"},
		{"a 16-bit jump, which the kernel refuses", "\x48\x85\xff\x66\xe9\x00\x00\x00\x00\xc3", 0, SingleStep, "test %rdi,%rdi", "may change"},
		{"returns at once", "\xc3", 0, SingleStep, "ret", "may change"},
		{"falls off its end", "\x48\x85\xff", 0, SingleStep, "test %rdi,%rdi", "no instruction"},
		{"cut inside an instruction", "\x48\x85", 0, Unknown, "", "decoded"},
		{"empty", "", 0, Unknown, "", "size is unknown"},
		{"long nop", "\x0f\x1f\x44\x00\x00\xc3", 0, Emulated, "nopl (%rax,%rax)", "kernel emulates"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Place(elf.EM_X86_64, []byte(tt.code))
			if got.Delta != tt.delta || got.Class != tt.class || !strings.HasPrefix(got.Instruction, tt.insn) || !strings.Contains(got.Why, tt.why) {
				t.Errorf("got %+v, want +%d %v %q because %q", got, tt.delta, tt.class, tt.insn, tt.why)
			}
		})
	}
}

func TestPlaceTooLarge(t *testing.T) {
	code := append([]byte("\x48\x85\xff\x74\x00"), make([]byte, maxCode)...)
	if got := Place(elf.EM_X86_64, code); got.Delta != 0 || !strings.Contains(got.Why, "too large") {
		t.Errorf("got %+v", got)
	}
}

func TestPlaceOtherMachines(t *testing.T) {
	for _, m := range []elf.Machine{elf.EM_AARCH64, elf.EM_RISCV} {
		if got := Place(m, glibcFree); got.Delta != 0 || got.Class != Unknown || got.Why == "" {
			t.Errorf("%v: got %+v", m, got)
		}
	}
}

func TestClassify(t *testing.T) {
	for code, want := range map[string]Class{
		"\x55": Emulated, "\x41\x54": Emulated, // push
		"\x90": Emulated, "\x66\x90": Emulated, "\xf3\x90": Emulated, // nop, pause
		"\x66\x0f\x1f\x44\x00\x00": Emulated,
		"\xe8\x00\x00\x00\x00":     Emulated, "\xe9\x00\x00\x00\x00": Emulated, "\xeb\x00": Emulated,
		"\x75\x00": Emulated, "\x0f\x84\x00\x00\x00\x00": Emulated,
		"\xf3\x0f\x1e\xfa": SingleStep, // endbr64
		"\x49\x90":         SingleStep, // xchg %r8,%rax
		"\x48\x85\xff":     SingleStep, "\xc3": SingleStep, "\x5d": SingleStep,
		"\x6a\x01":                 SingleStep, // push $1
		"\xff\x35\x00\x00\x00\x00": SingleStep,
		"\x66\x50":                 SingleStep, // push %ax
		"\xff\xe0":                 SingleStep,
		"\xe3\x00":                 SingleStep, // jrcxz
		"":                         SingleStep, "\x66": SingleStep,
	} {
		if got := classify([]byte(code)); got != want {
			t.Errorf("classify(% x) = %v, want %v", code, got, want)
		}
	}
}

// FuzzPlace checks what can be said of any bytes: the place is inside, on an
// instruction boundary, and emulated if it is not the entry.
func FuzzPlace(f *testing.F) {
	f.Add(glibcFree)
	f.Add(glibcMalloc)
	f.Add([]byte("\xf3\x0f\x1e\xfa\x48\x8b\x05\x00\x00\x00\x00\x55"))
	f.Fuzz(func(t *testing.T, code []byte) {
		p := Place(elf.EM_X86_64, code)
		if p.Why == "" {
			t.Error("no reason")
		}
		if p.Delta == 0 {
			return
		}
		if p.Delta >= uint64(len(code)) || p.Class != Emulated {
			t.Fatalf("placed at +%d of %d, %v", p.Delta, len(code), p.Class)
		}
		off := 0
		for uint64(off) < p.Delta {
			inst, err := decode(code[off:])
			if err != nil {
				t.Fatal(err)
			}
			off += inst.Len
		}
		if uint64(off) != p.Delta {
			t.Errorf("+%d is inside an instruction", p.Delta)
		}
	})
}
