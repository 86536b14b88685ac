package unwind

import "encoding/binary"

// isCalled reports whether an address is one that a function returns to: an
// executable mapping holds it, and, if its code is at hand, there is a call
// before it, or it returns from a signal. It tells what was guessed from what
// is.
func (w *walk) isCalled(addr uint64) bool {
	m, ok := w.code(addr - 1)
	if !ok {
		return false
	}
	if m.Module == nil {
		return true
	}
	at, ok := m.Module.address(addr - 1 - m.Start + m.Offset)
	if !ok {
		return false
	}
	if m.Module.signalRule(at+1) != nil {
		return true
	}
	const longest = 7
	var code [longest]byte
	if w.snap.Arch == ARM64 {
		return m.Module.code(at-3, code[:4]) == 4 && isCallARM64(binary.LittleEndian.Uint32(code[:]))
	}
	return m.Module.code(at-longest+1, code[:]) == longest && endsWithCall(code[:])
}

// isCallARM64 knows bl, blr, and blr with a signed address.
func isCallARM64(in uint32) bool {
	return in&0xfc000000 == 0x94000000 || in&0xfffffc1f == 0xd63f0000 || in&0xfefff800 == 0xd63f0800
}

// endsWithCall knows call rel32, and ff /2 by the length that its operand
// gives it.
func endsWithCall(code []byte) bool {
	n := len(code)
	if code[n-5] == 0xe8 {
		return true
	}
	for size := 2; size <= n; size++ {
		if in := code[n-size:]; in[0] == 0xff && in[1]>>3&7 == 2 && callLength(in) == size {
			return true
		}
	}
	return false
}

// callLength is the length of an instruction ff /2, from its ModR/M byte (Intel
// SDM, volume 2, table 2-2).
func callLength(in []byte) int {
	mod, rm := in[1]>>6, in[1]&7
	size := 2
	if mod != 3 && rm == 4 {
		size++
		if mod == 0 && len(in) > 2 && in[2]&7 == 5 {
			return size + 4
		}
	}
	switch {
	case mod == 1:
		size++
	case mod == 2 || mod == 0 && rm == 5:
		size += 4
	}
	return size
}
