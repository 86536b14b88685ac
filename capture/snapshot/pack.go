package snapshot

import (
	"encoding/binary"
	"slices"

	"github.com/tcap-dev/tcap/capture/unwind"
)

// unsent is what a word is taken for that was not 0, and not sent, since unwinding cannot
// depend on it: no address of anything.
const unsent = 1

// maskBits is how many words have masks together (bpf/pack.h).
const maskBits = 64

// Unpack makes the registers and the memory of a snapshot that was decoded, in buf. It
// returns that, to be used again when the snapshot is not needed any more.
func (s *Snapshot) Unpack(buf []byte) []byte {
	if s.packed == nil {
		return buf
	}
	memory := buf[:0]
	packed := s.packed
	next := func() (w uint64) {
		if len(packed) >= 8 {
			w, packed = binary.LittleEndian.Uint64(packed), packed[8:]
		}
		return w
	}
	words := savedRegs + s.bytes/8
	for at := 0; at < words; at += maskBits {
		there, notZero := next(), next()
		for i := at; i < min(at+maskBits, words); i++ {
			w := notZero & 1 * unsent
			if there&1 != 0 {
				w = next()
			}
			there, notZero = there>>1, notZero>>1
			if i < savedRegs {
				s.Regs[i] = w
			} else {
				memory = binary.LittleEndian.AppendUint64(memory, w)
			}
		}
	}
	s.packed = nil
	s.divide(memory)
	return memory
}

// divide gives each part its memory. The parts are those of the record, which may be damaged.
func (s *Snapshot) divide(memory []byte) {
	s.Rest = nil
	end, first := len(memory), 0
	for n := len(s.parts) - 1; n > 0; n-- {
		if from := int(s.parts[n].From); from > 0 && from < end {
			s.Rest = append(s.Rest, unwind.Part{At: s.parts[n].Start, Memory: memory[from:end:end]})
			end, first = from, from
		}
	}
	slices.Reverse(s.Rest)
	s.Stack = memory
	if first > 0 {
		s.Stack = memory[:first:first]
	}
}
