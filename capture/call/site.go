package call

import (
	"debug/elf"
	"errors"
	"fmt"

	"github.com/tcap-dev/tcap/bpf"
)

// Registers of struct pt_regs by their place, in words
// (arch/x86/include/asm/ptrace.h, arch/arm64/include/uapi/asm/ptrace.h).
const (
	x86R15 = iota
	x86R14
	x86R13
	x86R12
	x86BP
	x86BX
	x86R11
	x86R10
	x86R9
	x86R8
	x86AX
	x86CX
	x86DX
	x86SI
	x86DI
	_ // orig_ax
	x86IP
	_ // cs
	_ // flags
	x86SP
	_ // ss

	arm64SP = 31
)

// A function is the entry of a function that follows its platform's calling
// convention for integers and pointers.
type function struct {
	inRegisters []uint8
	stack       uint8 // register
	first       int32 // bytes from the stack pointer to the first argument there
	result      uint8
}

// Go passes arguments in registers of its own since 1.17 (ABIInternal in
// cmd/compile/abi-internal.md).
var functions = map[elf.Machine]map[bool]function{
	elf.EM_X86_64: {
		false: {[]uint8{x86DI, x86SI, x86DX, x86CX, x86R8, x86R9}, x86SP, 8, x86AX},
		true:  {[]uint8{x86AX, x86BX, x86CX, x86DI, x86SI, x86R8, x86R9, x86R10, x86R11}, x86SP, 8, x86AX},
	},
	elf.EM_AARCH64: {
		false: {[]uint8{0, 1, 2, 3, 4, 5, 6, 7}, arm64SP, 0, 0},
		true:  {[]uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, arm64SP, 8, 0},
	},
}

// Function is the site of a function's entry. Go says that it is compiled by Go.
func Function(machine elf.Machine, golang bool) (Site, error) {
	f, ok := functions[machine][golang]
	if !ok {
		return nil, fmt.Errorf("functions of %v cannot be probed here", machine)
	}
	return f, nil
}

func (f function) Arg(n int) (Operand, error) {
	if n < len(f.inRegisters) {
		return Operand{Slot: f.inRegisters[n], Index: noSlot}, nil
	}
	off := f.first + 8*int32(n-len(f.inRegisters))
	return Operand{Slot: f.stack, Index: noSlot, Memory: true, Offset: off, Size: 8}, nil
}

func (f function) Field(name string) (Operand, error) {
	return Operand{}, fmt.Errorf("a function has no field %s", name)
}

func (f function) Retval() (uint8, error) { return f.result, nil }

// A Mark is the site of a mark (USDT): arguments are where the compiler had them.
type Mark []Operand

// Arg is argument n of the mark.
func (m Mark) Arg(n int) (Operand, error) {
	if n >= len(m) {
		return Operand{}, fmt.Errorf("the mark has %d arguments: there is no arg%d", len(m), n)
	}
	return m[n], m[n].Fault
}

// Field fails.
func (m Mark) Field(name string) (Operand, error) {
	return Operand{}, fmt.Errorf("a mark has no field %s", name)
}

// Retval fails.
func (m Mark) Retval() (uint8, error) { return 0, errors.New("a mark returns nothing") }

// A TraceField is a field of a tracepoint's record.
type TraceField struct {
	Name   string
	Offset int32
	Size   int
	Signed bool
	Array  bool // text of Size bytes
	Bytes  bool // an array of something else, as of the bytes of an address
	// Loc: the field has the place of a text of any length, from the beginning
	// of the record; RelLoc: from behind the field.
	Loc, RelLoc bool
}

// A Tracepoint is the site of a tracepoint.
type Tracepoint []TraceField

// Arg fails.
func (t Tracepoint) Arg(n int) (Operand, error) {
	return Operand{}, fmt.Errorf("a tracepoint has no arg%d; it has fields, which tcap probes explain lists", n)
}

// Field is a field by its name.
func (t Tracepoint) Field(name string) (Operand, error) {
	names := make([]string, len(t))
	for i, f := range t {
		if f.Name != name {
			names[i] = f.Name
			continue
		}
		op := Operand{Slot: uint8(bpf.RawSlotSlotCtx), Index: noSlot, Memory: true, Offset: f.Offset, Size: f.Size, Signed: f.Signed}
		switch {
		case f.Loc, f.RelLoc:
			op.InRecord, op.Size = true, 2 // its length is in the upper half
			if f.RelLoc {
				op.Behind = f.Offset + int32(f.Size)
			}
		case f.Array:
			op.Inline, op.Size = f.Size, 0
		case f.Bytes:
			op.Bytes = true
		}
		return op, nil
	}
	return Operand{}, fmt.Errorf("there is no field %s; it has %v", name, names)
}

// Retval fails.
func (t Tracepoint) Retval() (uint8, error) { return 0, errors.New("a tracepoint returns nothing") }
