package unwind

// Arch is a machine whose stacks are understood.
type Arch uint8

const (
	AMD64 Arch = 1 + iota
	ARM64
)

// maxRegs bounds the DWARF register numbers that are followed: those of the
// general registers. Rules for others (vectors, pseudo-registers) are read and
// dropped.
const maxRegs = 32

// DWARF register numbers: System V ABI, AMD64 supplement, figure 3.36; DWARF
// for the Arm 64-bit Architecture, table 1.
const (
	amd64RBX = 3
	amd64RBP = 6
	amd64RSP = 7
	amd64RA  = 16

	arm64FP = 29
	arm64LR = 30
	arm64SP = 31
)

// machine is what differs between the architectures.
type machine struct {
	sp, fp, ra uint8
	kept       uint64 // bit set of the registers that a call preserves
}

var machines = [...]machine{
	AMD64: {amd64RSP, amd64RBP, amd64RA, bits(amd64RBX, amd64RBP, 12, 13, 14, 15)},
	ARM64: {arm64SP, arm64FP, arm64LR, bits(19, 20, 21, 22, 23, 24, 25, 26, 27, 28, arm64FP)},
}

func bits(regs ...uint8) uint64 {
	var set uint64
	for _, r := range regs {
		set |= 1 << r
	}
	return set
}

// codeAddress takes from a return address what is none of it: on arm64 its
// signature, which fills the bits above the 48 of an address in user space
// (Linux, Documentation/arch/arm64/pointer-authentication.rst), signed or not,
// since code that says nothing of itself may have signed it.
func (a Arch) codeAddress(v uint64) uint64 {
	if a == ARM64 {
		return v & (1<<48 - 1)
	}
	return v
}

// registers are those of one frame.
type registers struct {
	val   [maxRegs]uint64
	from  [maxRegs]origin // what told the value
	known uint64          // bit set
}

func (r *registers) get(reg uint8) (uint64, bool) {
	return r.val[reg], r.known>>reg&1 != 0
}

func (r *registers) set(reg uint8, v uint64) { r.copy(reg, v, 0) }

// copy sets a register to what was read from somewhere.
func (r *registers) copy(reg uint8, v uint64, from origin) {
	r.val[reg], r.from[reg] = v, from
	r.known |= 1 << reg
}
