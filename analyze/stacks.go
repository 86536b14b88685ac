package analyze

import (
	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// stackTable resolves stacks, each once.
type stackTable struct {
	r      *format.Reader
	frames map[uint32][]export.Frame
	buf    []format.Frame
}

func newStackTable(r *format.Reader) *stackTable {
	return &stackTable{r: r, frames: map[uint32][]export.Frame{}}
}

// get returns the frames of a stack, innermost first; never nil.
func (t *stackTable) get(stack uint32) []export.Frame {
	if f, ok := t.frames[stack]; ok {
		return f
	}
	t.buf = t.r.Stack(format.StackID(stack), t.buf[:0])
	out := make([]export.Frame, len(t.buf))
	for i, f := range t.buf {
		m := t.r.Module(f.Module)
		out[i] = export.Frame{
			Function: f.Function, File: f.File, Line: f.Line,
			Module: m.Path, BuildID: m.BuildID, Offset: f.Offset, Inlined: f.Inlined,
		}
	}
	t.frames[stack] = out
	return out
}
