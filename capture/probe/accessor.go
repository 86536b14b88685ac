package probe

import (
	"debug/elf"
	"maps"
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

const (
	maxAccessor      = 256 // bytes of an accessor that are looked at
	maxAccessorSteps = 48  // instructions
)

// Accessor reads from a function's code where a structure's members are. It is
// for the small functions that programs export to get at them, as
//
//	const char *thd_user_name(MYSQL_THD thd) { return thd->security_ctx ? thd->security_ctx->user : 0; }
//
// and returns the offsets at which the function follows its first argument, one
// pointer after the other: of security_ctx in what it is given, of user in what it
// finds there. One that calculates with several members of a structure yields them in
// the order in which it reads them. A function that has no code of that kind yields none.
func (e *ELF) Accessor(s Symbol) []int64 {
	if e.Machine() != elf.EM_X86_64 {
		return nil
	}
	code, err := e.Code(s.Offset, maxAccessor)
	if err != nil {
		return nil
	}
	if s.Size > 0 {
		code = code[:min(uint64(len(code)), s.Size)]
	}
	return loads(code)
}

// loads follows the first argument through amd64 code. What has been loaded last
// is held by the registers of held. Of a branch it takes the side on which what
// was tested is no NULL.
func loads(code []byte) []int64 {
	var offsets []int64
	held := map[x86asm.Reg]bool{x86asm.RDI: true}
	for at, n := 0, 0; at >= 0 && at < len(code) && n < maxAccessorSteps && len(held) > 0; n++ {
		inst, err := decode(code[at:])
		if err != nil {
			break
		}
		at += inst.Len
		switch inst.Op {
		case x86asm.JNE:
			rel, ok := inst.Args[0].(x86asm.Rel)
			if !ok {
				return offsets
			}
			at += int(rel)
			continue
		case x86asm.JE, x86asm.TEST, x86asm.CMP, x86asm.PUSH, x86asm.NOP:
			continue
		case x86asm.CALL: // it gives back what the platform's convention says
			maps.DeleteFunc(held, func(r x86asm.Reg, _ bool) bool { return slices.Contains(clobbered, r) })
			continue
		case x86asm.MOV, x86asm.LEA:
		case x86asm.XOR, x86asm.SUB, x86asm.ADD, x86asm.AND, x86asm.IMUL:
			if offset, ok := member(inst.Args[1], held); ok {
				offsets = append(offsets, offset)
			}
			if to, ok := inst.Args[0].(x86asm.Reg); ok {
				delete(held, wide(to))
			}
			continue
		default: // a return, or what would have to be understood
			return offsets
		}
		to, ok := inst.Args[0].(x86asm.Reg)
		if !ok {
			continue // a store
		}
		to = wide(to)
		switch from := inst.Args[1].(type) {
		case x86asm.Reg:
			if held[wide(from)] {
				held[to] = true
			} else {
				delete(held, to)
			}
		case x86asm.Mem:
			offset, ok := member(from, held)
			if !ok {
				delete(held, to)
				continue
			}
			offsets = append(offsets, offset)
			if inst.Op == x86asm.LEA { // the address itself is what is asked for
				return offsets
			}
			held = map[x86asm.Reg]bool{to: true}
		default:
			delete(held, to)
		}
	}
	return offsets
}

// member returns the offset of what is read by way of a register that holds the structure.
func member(from x86asm.Arg, held map[x86asm.Reg]bool) (offset int64, ok bool) {
	m, ok := from.(x86asm.Mem)
	return m.Disp, ok && held[m.Base] && m.Index == 0 && m.Segment == 0
}

// clobbered are the registers that a function may leave changed (System V ABI).
var clobbered = []x86asm.Reg{x86asm.RAX, x86asm.RCX, x86asm.RDX, x86asm.RSI, x86asm.RDI, x86asm.R8, x86asm.R9, x86asm.R10, x86asm.R11}

// wide is the 64-bit register that a register is part of; one that is none of the
// sixteen stays as it is.
func wide(r x86asm.Reg) x86asm.Reg {
	switch {
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return r - x86asm.EAX + x86asm.RAX
	case r >= x86asm.AX && r <= x86asm.R15W:
		return r - x86asm.AX + x86asm.RAX
	case r >= x86asm.AL && r <= x86asm.BL:
		return r - x86asm.AL + x86asm.RAX
	}
	return r
}
