package call

import (
	"debug/elf"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The notes of marks have arguments in the words of the assembler: a size, then
// what the instruction would have as its operand.
var (
	x86Memory  = regexp.MustCompile(`^(-?(?:0x)?[0-9a-fA-F]*)\((?:%([a-z0-9]+))?(?:,%([a-z0-9]+)(?:,([1248]))?)?\)$`)
	arm64Place = regexp.MustCompile(`^\[([a-z0-9]+)(?:, *#?(-?[0-9]+))?\]$`)
)

// ParseMark reads where the arguments of a mark are. One that cannot be read, as a
// number with a fraction, is an operand that says why.
func ParseMark(machine elf.Machine, args string) (Mark, error) {
	parse := map[elf.Machine]func(string) (Operand, error){elf.EM_X86_64: x86Operand, elf.EM_AARCH64: arm64Operand}[machine]
	if parse == nil {
		return nil, fmt.Errorf("marks of %v cannot be read here", machine)
	}
	var m Mark
	for i, word := range splitMark(args) {
		size, text, ok := strings.Cut(word, "@")
		n, err := strconv.Atoi(strings.TrimSuffix(size, "f"))
		if !ok || err != nil || n == 0 || n < -8 || n > 8 || strings.HasSuffix(size, "f") {
			m = append(m, Operand{Fault: fmt.Errorf("arg%d of the mark is %q, which cannot be read", i, word)})
			continue
		}
		op, err := parse(text)
		if err != nil {
			m = append(m, Operand{Fault: fmt.Errorf("arg%d of the mark is %q: %w", i, word, err)})
			continue
		}
		op.Size, op.Signed = max(n, -n), n < 0
		m = append(m, op)
	}
	return m, nil
}

// splitMark splits at spaces, but not within brackets.
func splitMark(args string) []string {
	depth := 0
	return strings.FieldsFunc(args, func(r rune) bool {
		switch r {
		case '[', '(':
			depth++
		case ']', ')':
			depth--
		}
		return r == ' ' && depth <= 0
	})
}

func x86Operand(s string) (Operand, error) {
	op := Operand{Slot: noSlot, Index: noSlot}
	if digits, ok := strings.CutPrefix(s, "$"); ok {
		return constant(digits)
	}
	if name, ok := strings.CutPrefix(s, "%"); ok {
		r, ok := x86Register(name)
		if !ok {
			return op, fmt.Errorf("no register %%%s can be read", name)
		}
		op.Slot = r
		return op, nil
	}
	m := x86Memory.FindStringSubmatch(s)
	if m == nil || m[2] == "" && m[3] == "" {
		return op, fmt.Errorf("an operand of a kind that cannot be read")
	}
	op.Memory = true
	if m[1] != "" {
		off, err := strconv.ParseInt(m[1], 0, 32)
		if err != nil {
			return op, fmt.Errorf("an offset of %s", m[1])
		}
		op.Offset = int32(off)
	}
	for i, into := range []*uint8{&op.Slot, &op.Index} {
		name := m[2+i]
		if name == "" {
			continue
		}
		r, ok := x86Register(name)
		if !ok {
			return op, fmt.Errorf("no register %%%s can be read", name)
		}
		*into = r
	}
	op.Scale = map[string]uint8{"2": 1, "4": 2, "8": 3}[m[4]]
	return op, nil
}

func constant(digits string) (Operand, error) {
	n, err := strconv.ParseInt(digits, 0, 32)
	if err != nil {
		return Operand{}, fmt.Errorf("the constant %s cannot be kept", digits)
	}
	return Operand{Slot: noSlot, Index: noSlot, Offset: int32(n)}, nil
}

// x86Register is the place of a register by one of its names; that of the second
// byte has none.
func x86Register(name string) (uint8, bool) {
	long := map[string]uint8{
		"ax": x86AX, "bx": x86BX, "cx": x86CX, "dx": x86DX, "si": x86SI, "di": x86DI, "bp": x86BP, "sp": x86SP, "ip": x86IP,
		"8": x86R8, "9": x86R9, "10": x86R10, "11": x86R11, "12": x86R12, "13": x86R13, "14": x86R14, "15": x86R15,
	}
	if digits, ok := strings.CutPrefix(name, "r"); ok {
		if r, ok := long[strings.TrimRight(digits, "bwd")]; ok {
			return r, true
		}
	}
	if len(name) == 3 && (name[0] == 'r' || name[0] == 'e') || len(name) == 2 && name[1] == 'x' {
		r, ok := long[name[len(name)-2:]]
		return r, ok
	}
	switch {
	case len(name) == 2 && name[1] == 'l' && strings.IndexByte("abcd", name[0]) >= 0:
		r, ok := long[name[:1]+"x"]
		return r, ok
	case len(name) == 3 && name[2] == 'l': // sil, dil, bpl, spl
		r, ok := long[name[:2]]
		return r, ok
	}
	r, ok := long[name]
	return r, ok && name[0] > '9'
}

func arm64Operand(s string) (Operand, error) {
	op := Operand{Slot: noSlot, Index: noSlot}
	if r, ok := arm64Register(s); ok {
		op.Slot = r
		return op, nil
	}
	if m := arm64Place.FindStringSubmatch(s); m != nil {
		r, ok := arm64Register(m[1])
		if !ok {
			return op, fmt.Errorf("no register %s can be read", m[1])
		}
		op.Slot, op.Memory = r, true
		if m[2] != "" {
			off, err := strconv.ParseInt(m[2], 10, 32)
			if err != nil {
				return op, fmt.Errorf("an offset of %s", m[2])
			}
			op.Offset = int32(off)
		}
		return op, nil
	}
	return constant(s)
}

func arm64Register(name string) (uint8, bool) {
	if name == "sp" {
		return arm64SP, true
	}
	if len(name) < 2 || name[0] != 'x' && name[0] != 'w' {
		return 0, false
	}
	n, err := strconv.ParseUint(name[1:], 10, 8)
	return uint8(n), err == nil && n <= 30
}
