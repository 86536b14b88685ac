package unwind

import (
	"encoding/binary"
	"unsafe"
)

// how tells what a location means.
type how uint8

const (
	unspecified how = iota // what the ABI says: kept, or lost
	sameValue              // kept
	undefined              // lost; of the return address: there is no caller
	atCFA                  // stored at CFA + off
	isCFA                  // equals CFA + off
	inRegister             // equals register reg + off; of the CFA, too
	atExpr                 // stored where the expression says
	isExpr                 // what the expression says; of the CFA, too
)

// A location is where one register of the caller is. It is small since there
// are maxRegs of them in a state.
type location struct {
	how how
	reg uint8
	n   uint32 // bytes of the expression, which begins at off in the section
	off int64
}

// A rule finds a caller's registers, at one place of the code. It is never
// changed, and shared by all places that have the same.
type rule struct {
	cfa    recipe
	ra     recipe   // undefined where no caller is: end tells why
	saved  []recipe // what a caller's other registers are, where that is not "as before"
	end    End
	method Method
	signal bool // the frame is one that the kernel made to deliver a signal
}

// A recipe is a location that stands for itself.
type recipe struct {
	how    how
	reg    uint8
	target uint8 // the register that is found
	off    int64
	expr   []byte
}

// bytes is about what the rule takes, with its place in a map.
func (r *rule) bytes() int64 {
	n := 100 + int64(unsafe.Sizeof(*r)) + int64(len(r.cfa.expr)+len(r.ra.expr))
	for _, s := range r.saved {
		n += int64(unsafe.Sizeof(s)) + int64(len(s.expr))
	}
	return n
}

// state is the virtual machine of call frame instructions (DWARF 5, 6.4.2). As
// in libgcc, register and offset of the CFA outlast an expression:
// hand-written code of libgcrypt goes back to them.
type state struct {
	cfa     location // how is inRegister once there is a register
	cfaExpr location // how is isExpr while an expression is in force
	regs    [maxRegs]location
}

// DW_CFA_* of DWARF 5, 7.24, and of vendors.
const (
	cfaAdvanceLoc       = 0x40 // the upper two bits, with an operand in the others
	cfaOffset           = 0x80
	cfaRestore          = 0xc0
	cfaNop              = 0x00
	cfaSetLoc           = 0x01
	cfaAdvanceLoc1      = 0x02
	cfaAdvanceLoc2      = 0x03
	cfaAdvanceLoc4      = 0x04
	cfaOffsetExtended   = 0x05
	cfaRestoreExtended  = 0x06
	cfaUndefined        = 0x07
	cfaSameValue        = 0x08
	cfaRegister         = 0x09
	cfaRememberState    = 0x0a
	cfaRestoreState     = 0x0b
	cfaDefCFA           = 0x0c
	cfaDefCFARegister   = 0x0d
	cfaDefCFAOffset     = 0x0e
	cfaDefCFAExpression = 0x0f
	cfaExpression       = 0x10
	cfaOffsetExtendedSF = 0x11
	cfaDefCFASF         = 0x12
	cfaDefCFAOffsetSF   = 0x13
	cfaValOffset        = 0x14
	cfaValOffsetSF      = 0x15
	cfaValExpression    = 0x16
	cfaMIPSAdvanceLoc8  = 0x1d
	cfaNegateRAStatePC  = 0x2c // AARCH64_negate_ra_state_with_pc
	cfaNegateRAState    = 0x2d // AARCH64_negate_ra_state; GNU_window_save of SPARC
	cfaGNUArgsSize      = 0x2e
	cfaGNUNegOffsetExt  = 0x2f
)

const (
	// maxRemembered bounds remember_state. GCC nests a handful.
	maxRemembered = 64
	// maxInstructions bounds the program of one entry. The longest in Debian
	// 12's libraries and programs has 22,171 bytes.
	maxInstructions = 1 << 16
	// maxExpr bounds an expression, in bytes. The longest there has 18.
	maxExpr = 256
)

// machineState runs call frame instructions. It is kept for its memory.
type machineState struct {
	state
	initial    state // after the CIE's instructions
	remembered []state
	loc, pc    uint64 // what the next instructions are for, and the place that is asked for
	budget     int
	work       *int // see Unwinder.work
	key        []byte
}

// run executes instructions until they speak of places behind pc.
func (m *machineState) run(c cursor, d *description, base *bases) error {
	for !c.done() {
		if m.budget--; m.budget < 0 {
			return damaged("more than %d instructions", maxInstructions)
		}
		if *m.work--; *m.work < 0 {
			return errWork
		}
		op := c.u8()
		at := m.loc
		switch op & 0xc0 {
		case cfaAdvanceLoc:
			m.loc += uint64(op&0x3f) * d.codeAlign
		case cfaOffset:
			m.set(uint64(op&0x3f), location{how: atCFA, off: int64(c.uleb()) * d.dataAlign})
		case cfaRestore:
			m.restore(uint64(op & 0x3f))
		default:
			if op == cfaNop {
				continue
			}
			if err := m.extended(op, &c, d, base); err != nil {
				return err
			}
		}
		if m.loc > m.pc {
			return nil
		}
		if m.loc < at {
			return damaged("places go backwards")
		}
	}
	if c.bad {
		return damaged("instructions are cut off")
	}
	return nil
}

func (m *machineState) set(reg uint64, l location) {
	if reg < maxRegs {
		m.regs[reg] = l
	}
}

func (m *machineState) restore(reg uint64) {
	if reg < maxRegs {
		m.regs[reg] = m.initial.regs[reg]
	}
}

// setCFA changes what the CFA is made of.
func (m *machineState) setCFA(reg uint64, off int64) error {
	if reg >= maxRegs {
		return damaged("CFA in register %d", reg)
	}
	m.cfa, m.cfaExpr = location{how: inRegister, reg: uint8(reg), off: off}, location{}
	return nil
}

func (m *machineState) extended(op byte, c *cursor, d *description, base *bases) error {
	switch op {
	case cfaSetLoc:
		loc, ok := c.pointer(d.encoding, base)
		if !ok {
			return damaged("DW_CFA_set_loc")
		}
		m.loc = loc
	case cfaAdvanceLoc1:
		m.loc += uint64(c.u8()) * d.codeAlign
	case cfaAdvanceLoc2:
		m.loc += uint64(c.u16()) * d.codeAlign
	case cfaAdvanceLoc4:
		m.loc += uint64(c.u32()) * d.codeAlign
	case cfaMIPSAdvanceLoc8:
		m.loc += c.u64() * d.codeAlign
	case cfaRememberState:
		if len(m.remembered) == maxRemembered {
			return damaged("more than %d states to remember", maxRemembered)
		}
		m.remembered = append(m.remembered, m.state)
	case cfaRestoreState:
		last := len(m.remembered) - 1
		if last < 0 {
			return damaged("no state to restore")
		}
		m.state, m.remembered = m.remembered[last], m.remembered[:last]
	case cfaDefCFA:
		reg := c.uleb()
		return m.setCFA(reg, int64(c.uleb()))
	case cfaDefCFASF:
		reg := c.uleb()
		return m.setCFA(reg, c.sleb()*d.dataAlign)
	case cfaDefCFARegister:
		return m.setCFA(c.uleb(), m.cfa.off)
	case cfaDefCFAOffset:
		m.cfa.off = int64(c.uleb())
	case cfaDefCFAOffsetSF:
		m.cfa.off = c.sleb() * d.dataAlign
	case cfaDefCFAExpression:
		m.cfaExpr = c.expr(isExpr)
	case cfaNegateRAState, cfaNegateRAStatePC:
		// Whether the return address is signed matters not: see Arch.codeAddress.
	case cfaGNUArgsSize:
		c.uleb()
	default:
		return m.register(op, c, d)
	}
	return nil
}

// register executes the instructions that set a register's location.
func (m *machineState) register(op byte, c *cursor, d *description) error {
	reg := c.uleb()
	switch op {
	case cfaOffsetExtended:
		m.set(reg, location{how: atCFA, off: int64(c.uleb()) * d.dataAlign})
	case cfaOffsetExtendedSF:
		m.set(reg, location{how: atCFA, off: c.sleb() * d.dataAlign})
	case cfaGNUNegOffsetExt:
		m.set(reg, location{how: atCFA, off: -int64(c.uleb()) * d.dataAlign})
	case cfaValOffset:
		m.set(reg, location{how: isCFA, off: int64(c.uleb()) * d.dataAlign})
	case cfaValOffsetSF:
		m.set(reg, location{how: isCFA, off: c.sleb() * d.dataAlign})
	case cfaRestoreExtended:
		m.restore(reg)
	case cfaUndefined:
		m.set(reg, location{how: undefined})
	case cfaSameValue:
		m.set(reg, location{how: sameValue})
	case cfaRegister:
		from := c.uleb()
		if from >= maxRegs {
			m.set(reg, location{how: undefined}) // saved in a vector register
			break
		}
		m.set(reg, location{how: inRegister, reg: uint8(from)})
	case cfaExpression:
		m.set(reg, c.expr(atExpr))
	case cfaValExpression:
		m.set(reg, c.expr(isExpr))
	default:
		return damaged("unknown instruction %#x", op)
	}
	return nil
}

// expr reads the length of an expression and skips it.
func (c *cursor) expr(how how) location {
	n := c.uleb()
	at := c.at
	if n > maxExpr || c.take(n) == nil {
		c.bad = true
		return location{}
	}
	return location{how: how, n: uint32(n), off: int64(at)}
}

// rule returns what the state says, shared with other places. section is what
// the offsets of expressions count from.
func (m *machineState) rule(mod *Module, section []byte, d *description) (*rule, error) {
	cfa := m.cfa
	if m.cfaExpr.how == isExpr {
		cfa = m.cfaExpr
	}
	if cfa.how == unspecified {
		return nil, damaged("no rule for the CFA")
	}
	m.key = m.key[:0]
	m.addKey(0xff, cfa, section)
	m.addKey(0xfe, m.regs[d.returnReg], section)
	for reg, l := range m.regs {
		if l.how > sameValue && uint8(reg) != d.returnReg {
			m.addKey(uint8(reg), l, section)
		}
	}
	m.key = append(m.key, d.returnReg, d.flags())
	if r := mod.rules[string(m.key)]; r != nil {
		return r, nil
	}
	arch := &machines[mod.arch]
	r := &rule{method: CFI, signal: d.signal, cfa: cfa.recipe(0, section), ra: m.regs[d.returnReg].recipe(d.returnReg, section)}
	// Only a signal's frame restores what a call does not preserve.
	followed := arch.kept | 1<<arch.sp
	if d.signal {
		followed = ^uint64(0)
	}
	followed &^= 1 << d.returnReg
	count := 0
	for reg, l := range m.regs {
		if l.how > sameValue && followed>>reg&1 != 0 {
			count++
		}
	}
	r.saved = make([]recipe, 0, count)
	for reg, l := range m.regs {
		if l.how > sameValue && followed>>reg&1 != 0 {
			r.saved = append(r.saved, l.recipe(uint8(reg), section))
		}
	}
	if r.ra.how == undefined {
		r.end = Complete
	}
	mod.keep(string(m.key), r)
	return r, nil
}

// addKey appends what tells a location from others.
func (m *machineState) addKey(target uint8, l location, section []byte) {
	m.key = append(m.key, target, byte(l.how), l.reg)
	if l.how == atExpr || l.how == isExpr {
		m.key = binary.AppendUvarint(m.key, uint64(l.n))
		m.key = append(m.key, section[l.off:l.off+int64(l.n)]...)
		return
	}
	m.key = binary.AppendVarint(m.key, l.off)
}

func (l location) recipe(target uint8, section []byte) recipe {
	r := recipe{how: l.how, reg: l.reg, target: target, off: l.off}
	if l.how == atExpr || l.how == isExpr {
		r.off, r.expr = 0, append([]byte(nil), section[l.off:l.off+int64(l.n)]...)
	}
	return r
}
