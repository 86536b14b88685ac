package snapshot

import "github.com/tcap-dev/tcap/capture/unwind"

const (
	// returned is by how many bytes a return shortens the stack.
	returned   = 8
	nativeArch = unwind.AMD64
	fpIndex    = 1
	lrIndex    = -1 // there is none
)

// registerIndex is where save_regs in bpf/snapshot.h puts a register, by its
// DWARF number (System V ABI, AMD64 supplement, figure 3.36).
func registerIndex(reg uint8) (int, bool) {
	switch {
	case reg == 3: // rbx
		return 0, true
	case reg == 6: // rbp
		return fpIndex, true
	case reg >= 12 && reg <= 15:
		return int(reg) - 10, true
	}
	return 0, false
}
