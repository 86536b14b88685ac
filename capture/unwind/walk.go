package unwind

import "encoding/binary"

// memory is the part of a stack that was recorded.
type memory struct {
	base  uint64
	bytes []byte
	rest  []Part
	cut   bool // something was wanted that lies behind it
}

// holds reports whether an address is in memory, or is its end.
func (m *memory) holds(addr uint64) bool {
	return addr-m.base <= uint64(len(m.bytes)) || m.part(addr) > 0
}

// part is the part of the rest that an address is in, or is the end of, from 1; 0 if it is in none, or
// in the first memory.
func (m *memory) part(addr uint64) int {
	if len(m.rest) == 0 || addr-m.base < uint64(len(m.bytes)) {
		return 0
	}
	for i := range m.rest {
		if addr-m.rest[i].At < uint64(len(m.rest[i].Memory)) {
			return i + 1
		}
	}
	for i := range m.rest {
		if addr-m.rest[i].At == uint64(len(m.rest[i].Memory)) && addr-m.base != uint64(len(m.bytes)) {
			return i + 1
		}
	}
	return 0
}

// near is where an address is from the begin of the part that it is in, or behind.
func (m *memory) near(addr uint64) (off uint64, bytes []byte) {
	off, bytes = addr-m.base, m.bytes
	if off < uint64(len(bytes)) {
		return off, bytes
	}
	if n := m.part(addr); n > 0 {
		return addr - m.rest[n-1].At, m.rest[n-1].Memory
	}
	for i := range m.rest {
		if addr-m.rest[i].At < off {
			off, bytes = addr-m.rest[i].At, m.rest[i].Memory
		}
	}
	return off, bytes
}

// maxStack is what no stack is larger than.
const maxStack = 1 << 32

// load reads size bytes as a number.
func (m *memory) load(addr uint64, size int) (uint64, End) {
	off, bytes := m.near(addr)
	if off >= maxStack && len(m.rest) < 2 { // pieces of stacks can be anywhere
		return 0, BadStep
	}
	if off >= uint64(len(bytes)) || uint64(len(bytes))-off < uint64(size) {
		m.cut = true
		return 0, SnapshotEnd
	}
	b := bytes[off:]
	switch size {
	case 8:
		return binary.LittleEndian.Uint64(b), 0
	case 4:
		return uint64(binary.LittleEndian.Uint32(b)), 0
	case 2:
		return uint64(binary.LittleEndian.Uint16(b)), 0
	case 1:
		return uint64(b[0]), 0
	}
	return 0, BadStep
}

// walk is the state of one stack being unwound.
type walk struct {
	space    Space
	snap     *Snapshot
	arch     *machine
	mem      memory
	expr     expression
	regs     registers
	old      registers // those of the frame that is being left
	pc       uint64
	isReturn bool // pc is behind a call
	entry    bool // at a function's first instruction
	away     bool // the stack pointer has left the snapshot for another stack
	signaled bool // the frame was interrupted, not called from
	crossed  bool // the frame that was left is where a signal handler returns to
	seen     Mapping
	from     origin // of what was recovered last
	needs    needs
}

func (w *walk) start(space Space, snap *Snapshot) {
	w.space, w.snap, w.arch = space, snap, &machines[snap.Arch]
	w.mem = memory{base: snap.SP, bytes: snap.Stack, rest: snap.Rest}
	w.pc, w.isReturn, w.entry = snap.PC, snap.Point == Returned, snap.Point == Entry
	w.signaled = !w.isReturn
	w.seen, w.away = Mapping{}, false
	w.needs.start(&w.mem)
	w.expr.needs = &w.needs
	w.regs.known = 0
	w.regs.set(w.arch.sp, snap.SP)
	w.regs.copy(w.arch.fp, snap.FP, register(w.arch.fp))
	if snap.Arch == ARM64 && !w.isReturn {
		w.regs.copy(arm64LR, snap.LR, register(arm64LR))
	}
	next := 0
	for reg := range uint8(maxRegs) {
		if w.arch.kept>>reg&1 == 0 || reg == w.arch.fp {
			continue
		}
		if next < len(snap.Regs) {
			w.regs.copy(reg, snap.Regs[next], register(reg))
		}
		next++
	}
}

// code finds the mapping of an address.
func (w *walk) code(addr uint64) (*Mapping, bool) {
	if addr-w.seen.Start < w.seen.End-w.seen.Start {
		return &w.seen, true
	}
	m, ok := w.space.Code(addr)
	if !ok || addr-m.Start >= m.End-m.Start {
		return nil, false
	}
	w.seen = m
	return &w.seen, true
}

// step goes to the caller. An end other than 0 says that it cannot.
func (w *walk) step() (Method, End) {
	w.crossed = false
	if w.entry {
		w.entry = false
		return CFI, w.leaveEntry()
	}
	at := w.pc
	if w.isReturn {
		at-- // the call may be the last instruction of its function
	}
	m, ok := w.code(at)
	if !ok {
		return 0, NoCode
	}
	var r *rule
	if m.Module != nil && m.Module.arch == w.snap.Arch {
		if addr, ok := m.Module.address(at - m.Start + m.Offset); ok {
			r = m.Module.rule(addr+w.pc-at, w.isReturn)
		}
	}
	w.crossed = r != nil && r.signal
	if r != nil && r.method != Code && w.applies(r) {
		return r.method, w.byRule(r)
	}
	if r != nil && r.method == Code {
		if end, ok := w.byCode(r); ok {
			return Code, end
		}
	}
	return FramePointer, w.byFramePointer()
}

// applies reports whether what the rule starts from is known: on arm64, a step
// by frame pointer tells no stack pointer.
func (w *walk) applies(r *rule) bool {
	return r.cfa.how != inRegister || r.cfa.reg != w.arch.sp || w.regs.known>>w.arch.sp&1 != 0
}

// byCode applies a rule that was read off the code. It takes it back, and
// reports false, unless it leads to where a call returns to.
func (w *walk) byCode(r *rule) (end End, ok bool) {
	regs, pc, isReturn, signaled := w.regs, w.pc, w.isReturn, w.signaled
	switch end = w.byRule(r); end {
	case 0:
		ok = w.isCalled(w.pc)
	case Complete:
		ok = r.end == Complete
	case SnapshotEnd:
		ok = true
	}
	if !ok {
		w.regs, w.pc, w.isReturn, w.signaled = regs, pc, isReturn, signaled
	}
	return end, ok
}

// leaveEntry undoes a call.
func (w *walk) leaveEntry() End {
	if w.snap.Arch == ARM64 {
		lr := w.regs.val[arm64LR]
		return w.arrive(lr, w.regs.val[w.arch.sp], 0)
	}
	sp := w.regs.val[w.arch.sp]
	ra, end := w.mem.load(sp, 8)
	if end != 0 {
		return end
	}
	w.needs.code(origin(sp), ra)
	return w.arrive(w.returned(sp, ra), sp+8, 0)
}

// returned gives the true return address of what a slot holds.
func (w *walk) returned(slot, value uint64) uint64 {
	for i := range w.snap.Returns {
		if r := &w.snap.Returns[i]; r.Slot == slot && (w.snap.Trampoline == 0 || value == w.snap.Trampoline) {
			return r.PC
		}
	}
	return value
}

// arrive makes the caller's frame the present one. extra are the registers
// beyond those that a call preserves that are known there.
func (w *walk) arrive(ra, sp, extra uint64) End {
	ra = w.snap.Arch.codeAddress(ra)
	if ra == 0 {
		return Complete // so the ABI's start-up code has it
	}
	w.regs.known &= w.arch.kept | extra
	w.regs.set(w.arch.sp, sp)
	w.pc, w.isReturn, w.signaled = ra, true, false
	return 0
}

// byRule applies a rule to the registers.
func (w *walk) byRule(r *rule) End {
	if r.ra.how == undefined {
		return r.end
	}
	w.old = w.regs
	old := &w.old
	if w.snap.Arch == AMD64 {
		old.set(amd64RA, w.pc) // the CFA of a PLT depends on it
	}
	cfa, end := w.cfa(r, old)
	if end != 0 {
		return end
	}
	sp := old.val[w.arch.sp]
	if !r.signal && (cfa < sp && w.mem.part(cfa) == w.mem.part(sp) || cfa == sp && !w.signaled) {
		return BadStep // stacks grow downwards, and a call takes room
	}
	ra, end := w.recover(&r.ra, cfa, old)
	if end != 0 {
		return end
	}
	w.needs.code(w.from, ra)
	newSP := cfa
	for i := range r.saved {
		s := &r.saved[i]
		v, end := w.recover(s, cfa, old)
		switch {
		case end != 0:
			w.regs.known &^= 1 << s.target
		case s.target == w.arch.sp:
			newSP = v
			w.needs.frame(w.from, v)
		default:
			w.regs.copy(s.target, v, w.from)
		}
	}
	extra := uint64(0)
	if r.signal {
		extra = ^uint64(0)
	}
	if end := w.arrive(ra, newSP, extra); end != 0 {
		return end
	}
	if r.signal {
		w.isReturn, w.signaled = false, true
		w.away = !w.mem.holds(newSP)
	}
	return 0
}

func (w *walk) cfa(r *rule, old *registers) (uint64, End) {
	if r.cfa.how == isExpr {
		return w.expr.evaluate(r.cfa.expr, old, &w.mem, false, 0)
	}
	v, ok := old.get(r.cfa.reg)
	if !ok {
		return 0, BadStep
	}
	w.needs.frame(old.from[r.cfa.reg], v)
	return v + uint64(r.cfa.off), 0
}

// recover finds the caller's value of a register.
func (w *walk) recover(r *recipe, cfa uint64, old *registers) (uint64, End) {
	w.from = 0
	switch r.how {
	case atCFA:
		return w.slot(r, cfa+uint64(r.off))
	case isCFA:
		return cfa + uint64(r.off), 0
	case inRegister:
		w.from = old.from[r.reg]
		if v, ok := old.get(r.reg); ok {
			return v, 0
		}
	case unspecified, sameValue:
		w.from = old.from[r.target]
		// On arm64 the return address of a leaf function stays where it was.
		if v, ok := old.get(r.target); ok && (w.signaled || r.target != w.arch.ra) {
			return v, 0
		}
	case atExpr, isExpr:
		v, end := w.expr.evaluate(r.expr, old, &w.mem, true, cfa)
		if end != 0 || r.how == isExpr {
			return v, end
		}
		return w.slot(r, v)
	}
	return 0, BadStep
}

// slot reads what is saved on the stack.
func (w *walk) slot(r *recipe, addr uint64) (uint64, End) {
	v, end := w.mem.load(addr, 8)
	w.from = origin(addr)
	if end == 0 && len(w.snap.Returns) > 0 {
		v = w.returned(addr, v)
	}
	return v, end
}

// byFramePointer takes the step that code with frame pointers allows, if all
// looks as if this were such code.
func (w *walk) byFramePointer() End {
	sp := w.regs.val[w.arch.sp]
	fp, ok := w.regs.get(w.arch.fp)
	if ok {
		w.needs.frame(w.regs.from[w.arch.fp], fp)
	}
	if !ok || fp < sp || fp%8 != 0 {
		return NoRule
	}
	next, end := w.mem.load(fp, 8)
	if end != 0 {
		return NoRule
	}
	ra, end := w.mem.load(fp+8, 8)
	if end != 0 {
		return NoRule
	}
	w.needs.code(origin(fp+8), ra)
	ra = w.snap.Arch.codeAddress(w.returned(fp+8, ra))
	if ra == 0 {
		w.needs.code(origin(fp), next) // whether it is 0, wherever the stack is
		if next == 0 {
			return Complete
		}
	}
	if !w.isCalled(ra) {
		return NoRule
	}
	w.regs.copy(w.arch.fp, next, origin(fp))
	w.regs.known &= bits(w.arch.fp)
	end = w.arrive(ra, fp+16, 0)
	if w.snap.Arch == ARM64 {
		w.regs.known &^= bits(w.arch.sp) // it is the least that it can be: the record is anywhere in a frame
	}
	return end
}
