package unwind

import (
	"bytes"

	"golang.org/x/arch/x86/x86asm"
)

// What nothing describes (musl, hand-written assembly) still has to return: the
// instructions from a place to the function's ret tell where the return address
// is, and which registers were popped on the way. All ways to a ret are
// followed, and unless they agree, nothing is said. What is found that way
// counts only if it is the address behind a call, see walk.byRule.
type follower struct {
	m       *Module
	budget  int // of instructions
	seen    map[uint64]height
	todo    []trail
	found   *trail // the first that came to a ret
	unknown bool   // some way could not be followed
	at      uint64 // address of window
	window  []byte
}

const (
	maxFollowed  = 1 << 10
	followedWork = 16 // of an instruction, as a part of Unwinder.work
	windowBytes  = 512
	longestAMD64 = 15 // bytes of an instruction
)

// code returns the instructions at pc.
func (f *follower) code(pc uint64) []byte {
	if off := pc - f.at; off < uint64(len(f.window)) && uint64(len(f.window))-off >= longestAMD64 {
		return f.window[off:]
	}
	f.at, f.window = pc, f.window[:windowBytes]
	f.window = f.window[:f.m.code(pc, f.window)]
	return f.window
}

// height is where the stack pointer is: off bytes from what a register was at
// the beginning.
type height struct {
	base uint8
	off  int64
}

// trail is one way through the code.
type trail struct {
	pc      uint64
	sp      height
	written uint64 // registers that are not as at the beginning
	saved   [16]popped
	pushed  [16]pushed // on the way, the latest last
	pushes  int
	called  bool // the instruction before was a call
}

// popped is where a written register's value came from.
type popped struct {
	ok bool
	at height
}

// pushed is a register that the way itself saves. Its value is not on the
// stack yet when the function is stopped before.
type pushed struct {
	reg uint8
	at  height
}

// amd64Numbers are the DWARF numbers of the registers, in the order of the
// machine's own.
var amd64Numbers = [16]uint8{0, 2, 1, amd64RBX, amd64RSP, amd64RBP, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15}

// number returns the DWARF number of a general register of any width.
func number(r x86asm.Reg) (uint8, bool) {
	switch {
	case r >= x86asm.RAX && r <= x86asm.R15:
		return amd64Numbers[r-x86asm.RAX], true
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return amd64Numbers[r-x86asm.EAX], true
	case r >= x86asm.AX && r <= x86asm.R15W:
		return amd64Numbers[r-x86asm.AX], true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return amd64Numbers[r-x86asm.SPB+4], true
	case r >= x86asm.AL && r <= x86asm.BL:
		return amd64Numbers[r-x86asm.AL], true
	case r >= x86asm.AH && r <= x86asm.BH:
		return amd64Numbers[r-x86asm.AH], true
	}
	return 0, false
}

var endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// follow makes a rule of the code at pc, nil if it tells none.
func (m *Module) follow(pc uint64) *rule {
	f := &follower{m: m, budget: maxFollowed, seen: map[uint64]height{}, window: make([]byte, 0, windowBytes)}
	f.todo = append(f.todo, trail{pc: pc, sp: height{base: amd64RSP}})
	agreed := true
	for len(f.todo) > 0 && agreed {
		t := f.todo[len(f.todo)-1]
		f.todo = f.todo[:len(f.todo)-1]
		agreed = f.run(t)
	}
	switch {
	case !agreed:
		return nil
	case f.found != nil:
		return f.found.rule()
	case !f.unknown:
		// All ways end in exit or the like, as in what calls main or a
		// thread's function.
		return &rule{method: Code, ra: recipe{how: undefined}, end: Complete}
	}
	return nil
}

// rule is that of a trail which ended at a ret.
func (t *trail) rule() *rule {
	r := &rule{method: Code, ra: recipe{how: atCFA, off: -8}}
	r.cfa = recipe{how: inRegister, reg: t.sp.base, off: t.sp.off + 8}
	for reg, p := range t.saved {
		switch {
		case machines[AMD64].kept>>reg&1 == 0 || t.written>>reg&1 == 0:
		case p.ok && p.at.base == t.sp.base:
			r.saved = append(r.saved, recipe{how: atCFA, target: uint8(reg), off: p.at.off - t.sp.off - 8})
		default:
			r.saved = append(r.saved, recipe{how: undefined, target: uint8(reg)})
		}
	}
	return r
}

// run follows a trail to its end. It reports false if that contradicts another.
func (f *follower) run(t trail) bool {
	for {
		f.m.u.work -= followedWork
		if f.budget--; f.budget < 0 || f.m.u.work < 0 {
			f.unknown = true
			return false
		}
		if sp, ok := f.seen[t.pc]; ok {
			f.unknown = true // if this is a loop, what is behind it is not
			return sp == t.sp
		}
		f.seen[t.pc] = t.sp
		code := f.code(t.pc)
		if bytes.HasPrefix(code, endbr64) {
			if t.called {
				return true // the next function: the call does not return
			}
			t.pc += 4
			continue
		}
		in, err := x86asm.Decode(code, 64)
		if err != nil {
			f.unknown = true
			return true
		}
		t.pc += uint64(in.Len)
		called := in.Op == x86asm.CALL
		switch ended, agreed := f.flow(&t, &in); {
		case ended:
			return agreed
		case !t.apply(&in):
			f.unknown = true
			return true
		}
		t.called = called
	}
}

// flow does what an instruction does to the program counter. ended says that
// the trail is, agreed that no other contradicts it.
func (f *follower) flow(t *trail, in *x86asm.Inst) (ended, agreed bool) {
	rel, direct := in.Args[0].(x86asm.Rel)
	target := t.pc + uint64(int64(rel))
	switch op := in.Op; {
	case op == x86asm.RET:
		if f.found == nil {
			f.found = t
		}
		return true, f.found.sp == t.sp
	case op == x86asm.CALL:
		return direct && f.m.endless(target), true
	case op == x86asm.HLT || op == x86asm.UD0 || op == x86asm.UD1 || op == x86asm.UD2:
		return true, true
	case op == x86asm.INT:
		return true, true // int3: padding, or abort
	case op == x86asm.JMP && direct:
		t.pc = target
	case op == x86asm.JMP || op == x86asm.LRET || op == x86asm.IRET || op == x86asm.IRETD || op == x86asm.IRETQ:
		f.unknown = true
		return true, true
	case direct: // what is left with such an operand branches or falls through
		other := *t
		other.pc, other.called = target, false
		f.todo = append(f.todo, other)
	}
	return false, true
}

// apply does what an instruction does to the stack pointer and the registers
// that a call preserves. It reports false if that is not known.
func (t *trail) apply(in *x86asm.Inst) bool {
	dst, _ := in.Args[0].(x86asm.Reg)
	reg, isReg := number(dst)
	switch in.Op {
	case x86asm.CALL, x86asm.JMP, x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.BT:
		return true
	case x86asm.PUSH, x86asm.PUSHFQ:
		t.sp.off -= 8
		t.push(reg, isReg)
		return true
	case x86asm.POPFQ:
		t.sp.off += 8
		return true
	case x86asm.POP:
		if isReg && reg != amd64RSP {
			t.pop(reg)
		}
		t.sp.off += 8
		return reg != amd64RSP || !isReg
	case x86asm.LEAVE:
		if !t.setSP(amd64RBP, 0) {
			return false
		}
		t.pop(amd64RBP)
		t.sp.off += 8
		return true
	case x86asm.ENTER:
		return false
	case x86asm.XCHG, x86asm.XADD:
		if r, ok := in.Args[1].(x86asm.Reg); ok {
			if other, ok := number(r); ok {
				if other == amd64RSP {
					return false
				}
				t.write(other, popped{})
			}
		}
	case x86asm.CPUID:
		t.write(amd64RBX, popped{})
		return true
	}
	switch {
	case !isReg:
		return true
	case reg == amd64RSP:
		return dst == x86asm.RSP && t.moveSP(in)
	case in.Op == x86asm.MOV:
		t.write(reg, t.loaded(in.Args[1]))
	default:
		t.write(reg, popped{})
	}
	return true
}

func (t *trail) push(reg uint8, isReg bool) {
	if !isReg || t.written>>reg&1 != 0 {
		reg = amd64RSP // a value that is nobody's
	}
	if t.pushes < len(t.pushed) {
		t.pushed[t.pushes] = pushed{reg, t.sp}
		t.pushes++
	}
}

// pop gives a register what the top of the stack has.
func (t *trail) pop(reg uint8) {
	for i := t.pushes - 1; i >= 0; i-- {
		if p := t.pushed[i]; p.at == t.sp {
			if t.write(reg, popped{}); p.reg == reg {
				t.written &^= 1 << reg
			}
			return
		}
	}
	t.write(reg, popped{t.sp.base != amd64RSP || t.sp.off >= 0, t.sp})
}

func (t *trail) write(reg uint8, p popped) {
	t.written |= 1 << reg
	t.saved[reg] = p
}

// loaded returns the place on the stack that an operand is.
func (t *trail) loaded(arg x86asm.Arg) popped {
	mem, ok := arg.(x86asm.Mem)
	if !ok || mem.Index != 0 || mem.Segment != 0 {
		return popped{}
	}
	switch base, ok := number(mem.Base); {
	case !ok:
	case base == amd64RSP:
		return popped{true, height{t.sp.base, t.sp.off + mem.Disp}}
	case base == amd64RBP && t.written>>amd64RBP&1 == 0:
		return popped{true, height{amd64RBP, mem.Disp}}
	}
	return popped{}
}

// setSP makes the stack pointer that of a register and an offset.
func (t *trail) setSP(base uint8, off int64) bool {
	if base == amd64RSP {
		t.sp.off += off
		return true
	}
	if machines[AMD64].kept>>base&1 == 0 || t.written>>base&1 != 0 {
		return false
	}
	t.sp = height{base, off}
	return true
}

// moveSP applies an instruction that writes rsp.
func (t *trail) moveSP(in *x86asm.Inst) bool {
	switch arg := in.Args[1].(type) {
	case x86asm.Imm:
		switch in.Op {
		case x86asm.ADD:
			t.sp.off += int64(arg)
			return true
		case x86asm.SUB:
			t.sp.off -= int64(arg)
			return true
		}
	case x86asm.Mem:
		if base, ok := number(arg.Base); ok && in.Op == x86asm.LEA && arg.Index == 0 {
			return t.setSP(base, arg.Disp)
		}
	case x86asm.Reg:
		if base, ok := number(arg); ok && in.Op == x86asm.MOV {
			return t.setSP(base, 0)
		}
	}
	return false
}
