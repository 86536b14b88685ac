package probe

import (
	"debug/elf"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/arch/x86/x86asm"
)

// maxCode bounds the bytes of a function that are disassembled. In a larger
// one, probes stay at the entry.
const maxCode = 64 << 10

// Place chooses where to probe the entry of a function whose machine code is
// given, from its first byte to its last.
//
// On amd64 the kernel emulates a few instructions when a probe replaces them
// (nop, push, call, jmp and conditional jumps; branch_setup_xol_ops and
// push_setup_xol_ops in arch/x86/kernel/uprobes.c) and single-steps all
// others, which takes a second trap. Place returns the first emulated
// instruction if
//
//   - every call reaches it: nothing before it branches away,
//   - it is reached once per call: nothing branches to it or in between,
//   - a probe there sees what it would see at the entry: nothing before it
//     writes memory, an argument register, the stack or the frame pointer,
//
// and else the entry. A signal or fault in between aside, a probe there runs
// exactly when one at the entry would. That of a return belongs to the same place: the
// kernel takes the return address from where the stack pointer is, which has not
// moved (prepare_uretprobe in kernel/events/uprobes.c).
func Place(machine elf.Machine, code []byte) Placement {
	switch machine {
	case elf.EM_X86_64:
		return placeAMD64(code)
	case elf.EM_AARCH64:
		return Placement{Why: "entry: probes are moved on amd64 only"}
	}
	return Placement{Why: fmt.Sprintf("entry: probes are moved on amd64 only, this is %v", machine)}
}

func placeAMD64(code []byte) Placement {
	entry := Placement{}
	if len(code) == 0 {
		entry.Why = "entry: the function's size is unknown"
		return entry
	}
	inst, err := decode(code)
	if err != nil {
		entry.Why = "entry: the first instruction cannot be decoded"
		return entry
	}
	entry.Class, entry.Instruction = classify(code[:inst.Len]), textAt(inst, 0)
	if entry.Class == Emulated {
		entry.Why = "entry: the kernel emulates it"
		return entry
	}
	found, why := firstEmulated(code)
	if why == "" {
		why = branchInto(code, found.Delta)
	}
	if why != "" {
		entry.Why = "entry: " + why
		return entry
	}
	return found
}

// firstEmulated walks straight on from the entry. It returns the first
// emulated instruction, or why it stopped before one.
func firstEmulated(code []byte) (Placement, string) {
	for off := 0; off < len(code); {
		inst, err := decode(code[off:])
		if err != nil {
			return Placement{}, fmt.Sprintf("the instruction at +%d cannot be decoded", off)
		}
		if classify(code[off:off+inst.Len]) == Emulated {
			return Placement{
				Delta: uint64(off), Class: Emulated, Instruction: textAt(inst, uint64(off)),
				Why: fmt.Sprintf("+%d: the first instruction that the kernel emulates", off),
			}, ""
		}
		if !harmless(inst, code[off:off+inst.Len]) {
			return Placement{}, fmt.Sprintf("%s at +%d may change what the probe reads", textAt(inst, uint64(off)), off)
		}
		off += inst.Len
	}
	return Placement{}, "no instruction is emulated"
}

// branchInto looks through the whole function for a branch to (0, upTo], and
// returns "" if there is none. Branches to the entry itself do not matter: a
// probe there would be hit again, too.
func branchInto(code []byte, upTo uint64) string {
	if len(code) > maxCode {
		return fmt.Sprintf("the function is too large to look for branches (%d bytes)", len(code))
	}
	for off := 0; off < len(code); {
		inst, err := decode(code[off:])
		if err != nil {
			return fmt.Sprintf("the instruction at +%d cannot be decoded", off)
		}
		next := off + inst.Len
		for _, arg := range inst.Args {
			rel, ok := arg.(x86asm.Rel)
			if !ok {
				continue
			}
			if to := int64(next) + int64(rel); to > 0 && to <= int64(upTo) {
				return fmt.Sprintf("%s at +%d branches to +%d", inst.Op, off, to)
			}
		}
		if inst.Op == x86asm.JMP && indirect(inst) {
			return fmt.Sprintf("the jump at +%d may go anywhere", off)
		}
		off = next
	}
	return ""
}

// indirect reports whether a jump takes its target from a register or a
// table. A jump through a fixed slot is a tail call through the GOT.
func indirect(inst x86asm.Inst) bool {
	switch a := inst.Args[0].(type) {
	case x86asm.Rel:
		return false
	case x86asm.Mem:
		return a.Base != x86asm.RIP || a.Index != 0
	}
	return true
}

// classify tells whether the kernel emulates an instruction, as
// branch_setup_xol_ops and push_setup_xol_ops do: by its bytes.
func classify(b []byte) Class {
	var rex byte
	operandSize := false
	n := len(b)
prefixes:
	for len(b) > 1 {
		switch b[0] {
		case 0x66:
			operandSize = true
		case 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67, 0xf2, 0xf3:
		default:
			if b[0]&0xf0 != 0x40 {
				break prefixes
			}
			rex = b[0]
		}
		b = b[1:]
	}
	if len(b) == 0 {
		return SingleStep
	}
	op := b[0]
	switch {
	case op == 0x90 && rex&1 == 0: // nop and pause; with REX.B it is xchg %r8,%rax
		return Emulated
	case op == 0x0f && len(b) > 2 && b[1] == 0x1f && b[2]&0x38 == 0: // nopw, nopl
		return Emulated
	case op&0xf8 == 0x50: // push reg
		if n == 1 || n == 2 && rex == 0x41 {
			return Emulated
		}
	case operandSize: // the kernel refuses 16-bit branches
	case op == 0xe8, op == 0xe9, op == 0xeb, op&0xf0 == 0x70:
		return Emulated
	case op == 0x0f && len(b) > 1 && b[1]&0xf0 == 0x80:
		return Emulated
	}
	return SingleStep
}

// readers are instructions that change no operand, but flags.
var readers = map[x86asm.Op]bool{x86asm.TEST: true, x86asm.CMP: true, x86asm.BT: true}

// writers are instructions that write their first operand, flags, and nothing
// else. What is in neither table stops the search.
var writers = map[x86asm.Op]bool{
	x86asm.MOV: true, x86asm.MOVZX: true, x86asm.MOVSX: true, x86asm.MOVSXD: true, x86asm.LEA: true,
	x86asm.XOR: true, x86asm.AND: true, x86asm.OR: true, x86asm.NOT: true,
	x86asm.ADD: true, x86asm.SUB: true, x86asm.INC: true, x86asm.DEC: true, x86asm.NEG: true,
	x86asm.SHL: true, x86asm.SHR: true, x86asm.SAR: true,
	x86asm.PXOR: true, x86asm.XORPS: true, x86asm.MOVD: true, x86asm.MOVQ: true,
	x86asm.MOVAPS: true, x86asm.MOVUPS: true, x86asm.MOVDQA: true, x86asm.MOVDQU: true,
}

// harmless reports whether a probe after inst sees what one before it does:
// the arguments in registers, on the stack and in memory, the stack pointer
// and the frame pointer.
func harmless(inst x86asm.Inst, b []byte) bool {
	if isEndbr(b) || readers[inst.Op] {
		return true
	}
	if !writers[inst.Op] {
		return false
	}
	reg, ok := inst.Args[0].(x86asm.Reg)
	return ok && scratch(reg)
}

// scratch reports whether a register carries nothing at a function's entry
// that a probe reads: not rdi, rsi, rdx, rcx, r8, r9, rsp, rbp, nor a vector
// argument. Other registers belong to the caller or to nobody.
func scratch(reg x86asm.Reg) bool {
	switch {
	case reg >= x86asm.RAX && reg <= x86asm.R15:
		switch reg {
		case x86asm.RAX, x86asm.RBX, x86asm.R10, x86asm.R11, x86asm.R12, x86asm.R13, x86asm.R14, x86asm.R15:
			return true
		}
	case reg >= x86asm.EAX && reg <= x86asm.R15L:
		switch reg {
		case x86asm.EAX, x86asm.EBX, x86asm.R10L, x86asm.R11L, x86asm.R12L, x86asm.R13L, x86asm.R14L, x86asm.R15L:
			return true
		}
	case reg >= x86asm.X8 && reg <= x86asm.X15:
		return true
	}
	return false
}

// isEndbr recognises endbr64 and endbr32, which x86asm calls a nop.
func isEndbr(b []byte) bool {
	return len(b) == 4 && b[0] == 0xf3 && b[1] == 0x0f && b[2] == 0x1e && (b[3] == 0xfa || b[3] == 0xfb)
}

func decode(code []byte) (inst x86asm.Inst, err error) {
	if len(code) >= 4 && isEndbr(code[:4]) {
		return x86asm.Inst{Op: x86asm.NOP, Len: 4, Mode: 64, DataSize: 32}, nil
	}
	// The decoder is table-driven and fuzzed, but the bytes are foreign.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("disassemble: %v", p)
		}
	}()
	inst, err = x86asm.Decode(code[:min(len(code), 15)], 64)
	// A prefix that nothing follows decodes as an instruction without Op.
	if err == nil && (inst.Op == 0 || inst.Len <= 0 || inst.Len > len(code)) {
		err = errors.New("disassemble: no instruction")
	}
	return inst, err
}

// textAt prints an instruction in GNU syntax, at an offset from its function's
// start: branch targets print as +N from there.
func textAt(inst x86asm.Inst, off uint64) string {
	if inst.Op == x86asm.NOP && inst.Len == 4 && inst.Opcode == 0 {
		return "endbr64"
	}
	s := x86asm.GNUSyntax(inst, 0, nil)
	for _, arg := range inst.Args {
		if rel, ok := arg.(x86asm.Rel); ok {
			op, _, _ := strings.Cut(s, " ")
			return fmt.Sprintf("%s %+d", strings.TrimSuffix(op, "q"), int64(off)+int64(inst.Len)+int64(rel))
		}
	}
	return s
}
