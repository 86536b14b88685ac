package unwind

import (
	"debug/elf"

	"github.com/tcap-dev/tcap/capture/symbol"
)

// goSource is the table that a Go program has of its own stacks. Unlike
// .debug_frame it survives stripping, and it knows where stacks begin.
type goSource struct {
	frames *symbol.GoFrames
	arch   Arch
}

func goFrames(f *elf.File, limit int64, arch Arch) (source, error) {
	frames, err := symbol.ReadGoFrames(f, limit)
	if frames == nil {
		return nil, err
	}
	return &goSource{frames, arch}, err
}

func (g *goSource) bytes() int64 { return g.frames.Bytes() }

// rule follows runtime/traceback.go and, for where a frame has what, the frame
// layouts of cmd/compile/abi-internal.md.
func (g *goSource) rule(pc uint64, m *Module) (*rule, error) {
	frame, ok := g.frames.Frame(pc)
	if !ok {
		return nil, nil
	}
	key := goKey(frame)
	if r := m.rules[key]; r != nil {
		return r, nil
	}
	r := &rule{method: GoTable, ra: recipe{how: undefined}}
	arch := &machines[g.arch]
	r.cfa = recipe{how: inRegister, reg: arch.sp, off: frame.Size}
	switch {
	case frame.Outermost:
		r.end = Complete
	case frame.Switches:
		r.end = Switched
	case g.arch == AMD64:
		// The call pushed the return address, the prologue then rbp.
		r.cfa.off += 8
		r.ra = recipe{how: atCFA, off: -8}
		if frame.Size > 0 {
			r.saved = []recipe{{how: atCFA, target: amd64RBP, off: -16}}
		}
	case frame.Size == 0:
		r.ra = recipe{how: sameValue, target: arm64LR}
	default:
		// x30 is at the frame's lower end, x29 below it.
		r.ra = recipe{how: atCFA, off: -frame.Size}
		r.saved = []recipe{{how: atCFA, target: arm64FP, off: -frame.Size - 8}}
	}
	m.keep(key, r)
	return r, nil
}

// goKey is no key of a rule of call frame information: those begin with 0xff.
func goKey(f symbol.GoFrame) string {
	key := []byte{0, 0}
	if f.Outermost {
		key[1] |= 1
	}
	if f.Switches {
		key[1] |= 2
	}
	for shift := 0; shift < 64; shift += 8 {
		key = append(key, byte(f.Size>>shift))
	}
	return string(key)
}
