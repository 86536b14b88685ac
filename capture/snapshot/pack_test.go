package snapshot

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
)

// packed is the record that the kernel would send of words, of which it leaves out those that
// are not wanted.
func packed(words []uint64, first int, wanted func(i int) bool) []byte {
	raw := bpf.RawSnapshot{}
	raw.Parts[1].From = uint32(first)
	raw.Hdr.Aux = uint32(8 * (len(words) - savedRegs))
	rec := append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Offsetof(raw.Packed))...)
	for at := 0; at < len(words); at += maskBits {
		var there, notZero uint64
		var sent []byte
		for i, w := range words[at:min(at+maskBits, len(words))] {
			if w != 0 {
				notZero |= 1 << i
			}
			if w != 0 && wanted(at+i) {
				there |= 1 << i
				sent = binary.LittleEndian.AppendUint64(sent, w)
			}
		}
		rec = binary.LittleEndian.AppendUint64(rec, there)
		rec = binary.LittleEndian.AppendUint64(rec, notZero)
		rec = append(rec, sent...)
	}
	return rec
}

// TestUnpack: what was sent is where it was, what was not is not taken for the start of a
// thread, which is 0, nor the other way round.
func TestUnpack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var memory []byte
	for range 200 {
		words := make([]uint64, savedRegs+rng.IntN(maxStackBytes/8+1)>>rng.IntN(12))
		for i := range words {
			if rng.IntN(3) > 0 {
				words[i] = rng.Uint64()
			}
		}
		first := 0
		if n := len(words) - savedRegs; n > 1 && rng.IntN(2) == 0 {
			first = 8 * (1 + rng.IntN(n-1))
		}
		wanted := func(i int) bool { return i < savedRegs || words[i]%3 == 0 }
		s, err := Decode(packed(words, first, wanted))
		if err != nil {
			t.Fatal(err)
		}
		memory = s.Unpack(memory)
		if len(memory) != 8*(len(words)-savedRegs) || s.size() != len(memory) || first > 0 && len(s.Stack) != first {
			t.Fatalf("%d words, %d bytes of the first part: unpacked to %d and %d bytes", len(words), first, len(s.Stack), s.size())
		}
		for i, w := range words {
			want := w
			if w != 0 && !wanted(i) {
				want = unsent
			}
			got := uint64(0)
			if i < savedRegs {
				got = s.Regs[i]
			} else {
				got = binary.LittleEndian.Uint64(memory[8*(i-savedRegs):])
			}
			if got != want {
				t.Fatalf("word %d of %d, %#x: got %#x, want %#x", i, len(words), w, got, want)
			}
		}
	}
}

// FuzzDecode: no record makes more of a snapshot than there can be of one.
func FuzzDecode(f *testing.F) {
	words := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	f.Add(packed(words[:savedRegs+4], 16, func(int) bool { return true }))
	f.Add(packed(words[:savedRegs+4], 8, func(i int) bool { return i%2 == 0 })[:120])
	f.Fuzz(func(t *testing.T, rec []byte) {
		s, err := Decode(rec)
		if err != nil {
			return
		}
		if memory := s.Unpack(nil); len(memory) > maxStackBytes || s.size() != len(memory) {
			t.Fatalf("%d bytes, %d of them in the snapshot", len(memory), s.size())
		}
		s.State(nil)
	})
}
