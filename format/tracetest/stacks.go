package tracetest

import (
	"strconv"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// spellOut adds the stacks of a section to a capture, and returns the trace
// with their rows in place of their names.
func spellOut(t testing.TB, w *format.Writer, section, trace string) string {
	t.Helper()
	var name string
	var frames []format.FrameID
	add := func() {
		var id format.StackID
		for i := len(frames) - 1; i >= 0; i-- {
			id = w.Stack(id, frames[i])
		}
		if name != "" {
			trace = strings.NewReplacer("stack="+name+" ", "stack=#"+strconv.Itoa(int(id))+" ").Replace(trace)
		}
	}
	var inlined []format.Symbol
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "@") || line == "" {
			add()
			name, frames = line, nil
			continue
		}
		f, symbol := parseFrame(t, w, line)
		inlined = append(inlined, symbol)
		if symbol.Inlined {
			continue
		}
		id := w.Frame(f)
		if symbol.Function != "" {
			w.Symbolize(id, inlined)
		}
		frames, inlined = append(frames, id), nil
	}
	add()
	return trace
}

// parseFrame reads FUNCTION | MODULE+0xOFFSET | FILE:LINE | inlined, of which
// only the first two are needed.
func parseFrame(t testing.TB, w *format.Writer, line string) (f format.Frame, s format.Symbol) {
	t.Helper()
	parts := strings.Split(line, " | ")
	if len(parts) < 2 {
		t.Fatalf("frame %q: want FUNCTION | MODULE+0xOFFSET", line)
	}
	at := strings.LastIndex(parts[1], "+")
	offset, err := strconv.ParseUint(parts[1][at+1:], 0, 64)
	if err != nil {
		t.Fatalf("frame %q: %v", line, err)
	}
	f = format.Frame{Offset: offset}
	if at > 0 {
		f.Module = w.Module(format.Module{Path: parts[1][:at]})
	}
	if parts[0] != "-" {
		s.Function = parts[0]
	}
	for _, p := range parts[2:] {
		if s.Inlined = p == "inlined"; s.Inlined {
			break
		}
		file, number, _ := strings.Cut(p, ":")
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			t.Fatalf("frame %q: %v", line, err)
		}
		s.File, s.Line = file, uint32(n)
	}
	return f, s
}
