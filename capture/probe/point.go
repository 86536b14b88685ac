package probe

import "fmt"

// Class says what a probe costs, which depends on the instruction it replaces.
type Class uint8

const (
	// Unknown is a place that was not examined.
	Unknown Class = iota
	// Emulated instructions are executed by the kernel inside the trap.
	Emulated
	// SingleStep instructions run from a copy with the trap flag set, which
	// costs a second trap.
	SingleStep
)

func (c Class) String() string {
	switch c {
	case Emulated:
		return "emulated"
	case SingleStep:
		return "single-step"
	}
	return "unknown"
}

// Point is a place where a program can be attached.
type Point struct {
	// Name is for people, as "malloc in /usr/lib/libc.so.6".
	Name string
	// Path is the ELF file as this process can open it, which may lead
	// through /proc/PID/root or /proc/PID/map_files.
	Path string
	// Offset is the file offset in bytes of the probed instruction.
	Offset uint64
	// Return runs the program when the function returns.
	Return bool
	// Semaphore is the file offset of the counter by which a program knows that
	// a mark of it is watched; 0 if there is none.
	Semaphore uint64
	// Placement tells how Offset was chosen.
	Placement Placement
}

func (p Point) String() string {
	kind := "uprobe"
	if p.Return {
		kind = "uretprobe"
	}
	if p.Name == "" {
		return fmt.Sprintf("%s:%s:0x%x", kind, p.Path, p.Offset)
	}
	return fmt.Sprintf("%s %s (offset 0x%x)", kind, p.Name, p.Offset)
}

// Placement is where in a function an entry probe goes, and why there.
type Placement struct {
	Delta       uint64 // bytes from the function's first instruction
	Class       Class
	Instruction string // the probed instruction, in GNU syntax
	Why         string // one clause for people
}
