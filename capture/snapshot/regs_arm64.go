package snapshot

import "github.com/tcap-dev/tcap/capture/unwind"

const (
	// returned is by how many bytes a return shortens the stack.
	returned   = 0
	nativeArch = unwind.ARM64
	fpIndex    = 10
	lrIndex    = 11
)

// registerIndex is where save_regs in bpf/snapshot.h puts a register, by its
// DWARF number, which is its own.
func registerIndex(reg uint8) (int, bool) {
	return int(reg) - 19, reg >= 19 && reg <= 30
}
