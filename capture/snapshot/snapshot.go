package snapshot

import (
	"fmt"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/unwind"
)

// A Snapshot is the memory of a stack, from where a function was entered.
type Snapshot struct {
	ID     uint64 // its signature
	SP     uint64
	Caller uint64 // the return address; or the address of the next instruction, and inside
	Code   uint32 // what was mapped as code, as a number
	Depth  uint32 // bytes from SP to the end of the stack, or, with signaled, of that for signals; 0: not known
	Regs   [savedRegs]uint64
	Stack  []byte        // from SP on
	Rest   []unwind.Part // what the stack goes on in: where a signal interrupted the thread, or its other pieces

	packed []byte // nil: it is unpacked
	bytes  int    // of Stack and Rest together
	parts  [parts]bpf.RawPart
}

const savedRegs = len(bpf.RawSnapshot{}.Words) - maxStackBytes/8

// maxStackBytes is MAX_STACK_BYTES of bpf/event.h.
const maxStackBytes = 248 << 10

// inside is INSIDE of bpf/event.h.
const inside = 1 << 63

// signaled is SIGNALED of bpf/event.h.
const signaled = 1 << 30

// split is SPLIT of bpf/event.h.
const split = 1 << 29

// parts is PARTS of bpf/event.h.
const parts = len(bpf.RawSnapshot{}.Parts)

// First is the first frame's address, as stacks have them: one behind what it tells of.
func (s *Snapshot) First() uint64 {
	if s.Caller&inside != 0 {
		return s.Caller&^inside + 1
	}
	return s.Caller
}

// size is that of the memory, bytes.
func (s *Snapshot) size() int {
	n := len(s.Stack)
	for i := range s.Rest {
		n += len(s.Rest[i].Memory)
	}
	return n
}

// room is how many bytes it takes as long as it waits.
func (s *Snapshot) room() int { return len(s.packed) }

// whole reports whether no copy of such a stack can be longer: it has all that there is, or
// as much as any.
func (s *Snapshot) whole(stackSize int) bool {
	n := s.size() + 7 // copies are of whole words
	return n >= stackSize || s.Depth != 0 && s.Depth&(signaled|split) == 0 && n >= int(s.Depth)
}

// Decode reads a record of the ring, whose memory it goes on to use. The Snapshot is to be
// unpacked.
func Decode(rec []byte) (Snapshot, error) {
	const head = int(unsafe.Offsetof(bpf.RawSnapshot{}.Packed))
	if len(rec) < head {
		return Snapshot{}, fmt.Errorf("%w: a snapshot of %d bytes", bpf.ErrRecord, len(rec))
	}
	// Only the head of the record is looked at as one.
	raw := (*bpf.RawSnapshot)(unsafe.Pointer(unsafe.SliceData(rec)))
	return Snapshot{
		ID: raw.Id, SP: raw.Sp, Caller: raw.Caller, Code: raw.Code, Depth: raw.Depth,
		packed: rec[head:], bytes: min(int(raw.Hdr.Aux), maxStackBytes), parts: raw.Parts,
	}, nil
}

// State makes of a snapshot what the unwinder wants: the caller's frame, to which
// the entered function is about to return, or that of the function it was inside. The
// registers are put into regs.
func (s *Snapshot) State(regs []uint64) *unwind.Snapshot {
	to := &unwind.Snapshot{Arch: nativeArch, Point: unwind.Returned, PC: s.Caller, SP: s.SP, Stack: s.Stack, Rest: s.Rest, Regs: regs[:0]}
	if s.Caller&inside != 0 {
		to.Point, to.PC = unwind.Inside, s.Caller&^inside
	} else if len(s.Stack) >= returned {
		to.SP, to.Stack = s.SP+returned, s.Stack[returned:]
	}
	for i, v := range s.Regs {
		switch i {
		case fpIndex:
			to.FP = v
		case lrIndex:
			to.LR = v
		default:
			to.Regs = append(to.Regs, v)
		}
	}
	return to
}
