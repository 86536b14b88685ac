package unwind

// A Need is a word that the course of an unwinding depended on. Unwinding is a
// function of these alone: a snapshot that has the same words at the same
// distances from its stack pointer, taken where the same code is mapped, has
// the same frames, whatever else is in it.
type Need struct {
	// Slot is the address of the word on the stack; 0: it is in Reg.
	Slot uint64
	Reg  uint8 // DWARF number
	// Value is the word; of one that led to a frame, Relative, its distance
	// from the snapshot's stack pointer, or, of one in Rest[Part-1], from where that begins.
	Value    uint64
	Relative bool
	Part     int
}

// Needs returns what the last call of [Unwinder.Unwind] depended on, in the
// order in which it came to it, which itself depends on nothing else. ok is false if that
// cannot be told. The slice is valid until the next call.
func (u *Unwinder) Needs() (needs []Need, ok bool) {
	n := &u.walk.needs
	return n.list, !n.lost && u.work >= 0 // else the tables were too dear, this time
}

// Cut reports whether the last call of [Unwinder.Unwind] wanted memory that lies behind what the
// snapshot has: with more of it, the same stack may have other frames, or more.
func (u *Unwinder) Cut() bool { return u.walk.mem.cut }

// An origin is where a value was read: an address on the stack, or a register of
// the snapshot by its number + 1; 0 if it was computed from what is needed already.
type origin uint64

func register(reg uint8) origin { return origin(reg) + 1 }

type needs struct {
	list []Need
	mem  *memory
	lost bool
}

func (n *needs) start(mem *memory) { n.list, n.mem, n.lost = n.list[:0], mem, false }

// code notes a return address.
func (n *needs) code(from origin, v uint64) { n.add(from, Need{Value: v}) }

// frame notes a value that frames are found by.
func (n *needs) frame(from origin, v uint64) {
	base, part := n.mem.base, n.mem.part(v)
	if part > 0 {
		base = n.mem.rest[part-1].At
	}
	n.add(from, Need{Value: v - base, Relative: true, Part: part})
}

func (n *needs) add(from origin, need Need) {
	switch {
	case from == 0:
		return
	case from <= maxRegs:
		need.Reg = uint8(from - 1)
	default:
		need.Slot = uint64(from)
	}
	n.list = append(n.list, need)
}
