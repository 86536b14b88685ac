package capture

import (
	"slices"
	"strings"

	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
)

// kernelModule is the kernel's own code, by the name that perf and pprof have for it.
const kernelModule = "[kernel.kallsyms]"

// kernelStacks makes rows of the kernel's stacks. A frame is named from kallsyms, so
// the capture has just those names that were met; its place is counted from the
// start of the code that it is in, which does not tell where the kernel is.
type kernelStacks struct {
	symbols *symbol.KernelSymbols
	starts  map[string]uint64 // of the code of a module; "" is the kernel's
	frames  map[uint64]kernelFrame
}

// A kernelFrame is a return address: its row, and whether it is of the machinery
// that took the stack.
type kernelFrame struct {
	id   format.FrameID
	ours bool
}

func newKernelStacks(symbols *symbol.KernelSymbols) *kernelStacks {
	ks := &kernelStacks{symbols: symbols, starts: map[string]uint64{}, frames: map[uint64]kernelFrame{}}
	for _, s := range symbols.Symbols() { // by address
		if _, ok := ks.starts[s.Module]; !ok || s.Module == "" && s.Name == "_stext" {
			ks.starts[s.Module] = s.Addr
		}
	}
	return ks
}

// row is the row of a stack; 0 if nothing is left of it. It may be called of nil,
// which has none.
func (ks *kernelStacks) row(w *format.Writer, addrs []uint64) (row format.StackID) {
	if ks == nil {
		return 0
	}
	frames := make([]kernelFrame, len(addrs))
	for i, addr := range addrs {
		frames[i] = ks.frame(w, addr)
	}
	// What took the stack is inside of what is to be known; programs and
	// trampolines have no names, if they are newer than the symbols.
	outer := frames
	for i := range min(len(frames), maxTakers) {
		if frames[i].ours {
			outer = frames[i+1:]
		}
	}
	for _, f := range slices.Backward(outer) {
		row = w.Stack(row, f.id)
	}
	return row
}

// maxTakers is how many frames may be of what took the stack.
const maxTakers = 8

// takers begin the names of functions that run programs on a raw tracepoint.
var takers = []string{"bpf_", "__bpf_", "__traceiter_", "__probestub_"}

func (ks *kernelStacks) frame(w *format.Writer, addr uint64) kernelFrame {
	if f, ok := ks.frames[addr]; ok {
		return f
	}
	s, ok := ks.symbols.Lookup(max(addr, 1) - 1) // the call
	var f kernelFrame
	if ok {
		name := kernelModule
		if s.Module != "" {
			name = "[" + s.Module + "]"
		}
		f.id = w.Frame(format.Frame{
			Module: w.Module(format.Module{Path: name}), Offset: addr - ks.starts[s.Module], Function: s.Name,
		})
		f.ours = slices.ContainsFunc(takers, func(prefix string) bool { return strings.HasPrefix(s.Name, prefix) })
	} else {
		f.id = w.Frame(format.Frame{Module: w.Module(format.Module{Path: kernelModule}), Offset: addr})
	}
	ks.frames[addr] = f
	return f
}
