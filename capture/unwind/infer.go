package unwind

import "bytes"

// The frame that the kernel makes for a signal handler returns to a few
// instructions that call sigreturn. Where nothing describes them (musl), or
// badly (the arm64 vdso leads to the interrupted function's LR, not to it), they
// are known by their bytes, as to libgcc and gdb.
var (
	// mov $15, %rax or %eax; syscall. The second is musl's.
	sigreturnAMD64 = [][]byte{
		{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05},
		{0xb8, 15, 0, 0, 0, 0x0f, 0x05},
	}
	// mov x8, #139; svc #0
	sigreturnARM64 = []byte{0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4}
)

// signalRule returns the rule of the frame of a signal, if the code at pc
// returns from one; nil if not.
func (m *Module) signalRule(pc uint64) *rule {
	var code [9]byte
	n := m.code(pc, code[:])
	switch m.arch {
	case AMD64:
		for _, s := range sigreturnAMD64 {
			if bytes.HasPrefix(code[:n], s) {
				return &signalAMD64
			}
		}
	case ARM64:
		if bytes.HasPrefix(code[:n], sigreturnARM64) {
			return &signalARM64
		}
	}
	return nil
}

// code reads instructions from the file.
func (m *Module) code(addr uint64, into []byte) int {
	for _, s := range m.segs {
		if addr-s.vaddr < s.size {
			into = into[:min(uint64(len(into)), s.size-(addr-s.vaddr))]
			n, _ := m.file.ReadAt(into, int64(addr-s.vaddr+s.off)) // what is there decides
			return n
		}
	}
	return 0
}

var signalAMD64, signalARM64 = signalRules()

// signalRules finds all registers where the kernel saved them, above the stack
// pointer.
func signalRules() (amd64, arm64 rule) {
	// struct rt_sigframe without its return address: struct ucontext, whose
	// struct sigcontext begins at 40 (arch/x86/include/asm/sigframe.h,
	// uapi/asm/sigcontext.h).
	amd64 = rule{method: CFI, signal: true, cfa: recipe{how: inRegister, reg: amd64RSP, off: 40}}
	for i, reg := range []uint8{8, 9, 10, 11, 12, 13, 14, 15, 5, 4, amd64RBP, amd64RBX, 1, 0, 2, amd64RSP} {
		amd64.saved = append(amd64.saved, recipe{how: atCFA, target: reg, off: int64(8 * i)})
	}
	amd64.ra = recipe{how: atCFA, target: amd64RA, off: 8 * 16}

	// struct rt_sigframe: siginfo of 128 bytes, struct ucontext, whose struct
	// sigcontext begins at 176 with the fault's address (arch/arm64/kernel/
	// signal.c, uapi/asm/sigcontext.h).
	arm64 = rule{method: CFI, signal: true, cfa: recipe{how: inRegister, reg: arm64SP, off: 128 + 176 + 8}}
	for reg := range uint8(arm64SP + 1) {
		arm64.saved = append(arm64.saved, recipe{how: atCFA, target: reg, off: int64(8 * uint64(reg))})
	}
	arm64.ra = recipe{how: atCFA, off: 8 * 32}
	return amd64, arm64
}
