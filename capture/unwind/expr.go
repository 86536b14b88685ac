package unwind

// DW_OP_* of DWARF 5, 7.7.1, as far as rules of frames can use them.
const (
	opDeref      = 0x06
	opConst1u    = 0x08
	opConst8s    = 0x0f
	opConstu     = 0x10
	opConsts     = 0x11
	opDup        = 0x12
	opDrop       = 0x13
	opOver       = 0x14
	opPick       = 0x15
	opSwap       = 0x16
	opRot        = 0x17
	opAbs        = 0x19
	opAnd        = 0x1a
	opDiv        = 0x1b
	opMinus      = 0x1c
	opMod        = 0x1d
	opMul        = 0x1e
	opNeg        = 0x1f
	opNot        = 0x20
	opOr         = 0x21
	opPlus       = 0x22
	opPlusUconst = 0x23
	opShl        = 0x24
	opShr        = 0x25
	opShra       = 0x26
	opXor        = 0x27
	opBra        = 0x28
	opEq         = 0x29
	opNe         = 0x2e
	opSkip       = 0x2f
	opLit0       = 0x30
	opLit31      = 0x4f
	opBreg0      = 0x70
	opBreg31     = 0x8f
	opBregx      = 0x92
	opDerefSize  = 0x94
	opNop        = 0x96
)

const (
	maxExprSteps = 1 << 10 // branches go backwards, too
	maxExprStack = 64
)

// expression is a DWARF expression over the registers of a frame and its
// stack.
type expression struct {
	code  cursor
	regs  *registers
	mem   *memory
	needs *needs
	stack [maxExprStack]uint64
	n     int
	why   End // of a failure
}

// evaluate computes an expression. With push, the stack starts with the CFA,
// as rules of registers want it (DWARF 5, 6.4.2.3).
func (e *expression) evaluate(code []byte, regs *registers, mem *memory, push bool, cfa uint64) (uint64, End) {
	e.code, e.regs, e.mem, e.n, e.why = cursor{b: code}, regs, mem, 0, 0
	if push {
		e.push(cfa)
	}
	for steps := 0; !e.code.done() && e.why == 0; steps++ {
		if steps == maxExprSteps {
			return 0, BadStep
		}
		e.step(e.code.u8())
	}
	switch {
	case e.why != 0:
		return 0, e.why
	case e.code.bad || e.n == 0:
		return 0, BadStep
	}
	return e.stack[e.n-1], 0
}

func (e *expression) fail(why End) uint64 {
	if e.why == 0 {
		e.why = why
	}
	return 0
}

func (e *expression) push(v uint64) {
	if e.n == maxExprStack {
		e.fail(BadStep)
		return
	}
	e.stack[e.n] = v
	e.n++
}

func (e *expression) pop() uint64 {
	if e.n == 0 {
		return e.fail(BadStep)
	}
	e.n--
	return e.stack[e.n]
}

// pick copies the entry that lies depth below the top.
func (e *expression) pick(depth int) {
	if depth >= e.n {
		e.fail(BadStep)
		return
	}
	e.push(e.stack[e.n-1-depth])
}

func (e *expression) reg(n uint64) uint64 {
	if n < maxRegs {
		if v, ok := e.regs.get(uint8(n)); ok {
			e.needs.frame(e.regs.from[n], v)
			return v
		}
	}
	return e.fail(BadStep)
}

func (e *expression) load(addr uint64, size int) uint64 {
	v, end := e.mem.load(addr, size)
	if end != 0 {
		return e.fail(end)
	}
	if size != 8 {
		e.needs.lost = true
	}
	e.needs.frame(origin(addr), v)
	return v
}

func (e *expression) jump(by int16) {
	to := e.code.at + int(by)
	if to < 0 || to > len(e.code.b) {
		e.fail(BadStep)
		return
	}
	e.code.at = to
}

func (e *expression) step(op byte) {
	c := &e.code
	switch {
	case op >= opLit0 && op <= opLit31:
		e.push(uint64(op - opLit0))
	case op >= opBreg0 && op <= opBreg31:
		e.push(e.reg(uint64(op-opBreg0)) + uint64(c.sleb()))
	case op == opBregx:
		reg := c.uleb()
		e.push(e.reg(reg) + uint64(c.sleb()))
	case op >= opConst1u && op <= opConst8s:
		e.push(e.constant(op))
	case op == opConstu:
		e.push(c.uleb())
	case op == opConsts:
		e.push(uint64(c.sleb()))
	case op == opDeref:
		e.push(e.load(e.pop(), 8))
	case op == opDerefSize:
		size := int(c.u8())
		e.push(e.load(e.pop(), size))
	case op == opDup:
		e.pick(0)
	case op == opOver:
		e.pick(1)
	case op == opPick:
		e.pick(int(c.u8()))
	case op == opDrop:
		e.pop()
	case op == opSwap:
		a, b := e.pop(), e.pop()
		e.push(a)
		e.push(b)
	case op == opRot:
		a, b, d := e.pop(), e.pop(), e.pop()
		e.push(a)
		e.push(d)
		e.push(b)
	case op == opBra:
		by := int16(c.u16())
		if e.pop() != 0 {
			e.jump(by)
		}
	case op == opSkip:
		e.jump(int16(c.u16()))
	case op == opNop:
	default:
		e.arithmetic(op)
	}
}

func (e *expression) constant(op byte) uint64 {
	c := &e.code
	switch op - opConst1u {
	case 0:
		return uint64(c.u8())
	case 1:
		return uint64(int8(c.u8()))
	case 2:
		return uint64(c.u16())
	case 3:
		return uint64(int16(c.u16()))
	case 4:
		return uint64(c.u32())
	case 5:
		return uint64(int32(c.u32()))
	}
	return c.u64()
}

func (e *expression) arithmetic(op byte) {
	switch op {
	case opAbs:
		v := int64(e.pop())
		e.push(uint64(max(v, -v)))
		return
	case opNeg:
		e.push(-e.pop())
		return
	case opNot:
		e.push(^e.pop())
		return
	case opPlusUconst:
		e.push(e.pop() + e.code.uleb())
		return
	}
	b, a := e.pop(), e.pop()
	if op >= opEq && op <= opNe {
		e.push(compare(op, int64(a), int64(b)))
		return
	}
	switch op {
	case opAnd:
		a &= b
	case opOr:
		a |= b
	case opXor:
		a ^= b
	case opPlus:
		a += b
	case opMinus:
		a -= b
	case opMul:
		a *= b
	case opShl:
		a <<= b
	case opShr:
		a >>= b
	case opShra:
		a = uint64(int64(a) >> b)
	case opDiv, opMod:
		if b == 0 {
			e.fail(BadStep)
			return
		}
		if op == opMod {
			a %= b
		} else {
			a = uint64(int64(a) / int64(b))
		}
	default: // an address (DW_OP_addr has no place in a relocatable frame), or unknown
		e.fail(BadStep)
		return
	}
	e.push(a)
}

// compare does what DW_OP_eq to DW_OP_ne do, in the order of their codes.
func compare(op byte, a, b int64) uint64 {
	truth := [...]bool{a == b, a >= b, a > b, a <= b, a < b, a != b}[op-opEq]
	if truth {
		return 1
	}
	return 0
}
