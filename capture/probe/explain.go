package probe

import (
	"fmt"
	"io"
	"strings"
)

// explainInstructions is how many instructions Explain shows, at most.
const explainInstructions = 8

// Explanation tells where a probe goes and why.
type Explanation struct {
	Path      string
	Symbol    Symbol
	BuildID   string // in hexadecimal, or ""
	Placement Placement
	Code      []Line
	Warning   string // why it may not be hit, or not as asked for
}

// Line is one instruction of a listing.
type Line struct {
	Delta  uint64 // bytes from the function's start
	Bytes  []byte
	Text   string // GNU syntax; branch targets as +N from the function's start
	Class  Class
	Chosen bool // the probe goes here
}

// Explain returns the decision of Place for a function.
func (e *ELF) Explain(s Symbol) (*Explanation, error) {
	code, err := e.Code(s.Offset, int(min(s.Size, maxCode+1)))
	if err != nil {
		return nil, err
	}
	x := &Explanation{Path: e.Name(), Symbol: s, BuildID: e.BuildID(), Placement: Place(e.Machine(), code)}
	if x.Placement.Class != Unknown {
		x.Code = listing(code, x.Placement.Delta)
	}
	return x, nil
}

// listing disassembles the start of a function.
func listing(code []byte, chosen uint64) []Line {
	var lines []Line
	for off := 0; off < len(code) && (len(lines) < explainInstructions || uint64(off) <= chosen); {
		inst, err := decode(code[off:])
		if err != nil {
			break
		}
		b := code[off : off+inst.Len]
		lines = append(lines, Line{
			Delta: uint64(off), Bytes: b, Text: textAt(inst, uint64(off)),
			Class: classify(b), Chosen: uint64(off) == chosen,
		})
		off += inst.Len
	}
	return lines
}

// WriteText prints the explanation for people, at most 80 columns wide unless
// a name is wider.
func (x *Explanation) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s\n", printable(x.Symbol.Name), printable(x.Path))
	row := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s %s\n", key, fmt.Sprintf(format, args...))
	}
	row("address", "0x%x, %d bytes, at file offset 0x%x", x.Symbol.Addr, x.Symbol.Size, x.Symbol.Offset)
	if x.BuildID != "" {
		row("build-id", "%s", x.BuildID)
	}
	row("probe at", "+%d, file offset 0x%x", x.Placement.Delta, x.Symbol.Offset+x.Placement.Delta)
	row("instruction", "%s", or(x.Placement.Instruction, "not examined"))
	row("class", "%v", x.Placement.Class)
	writeWrapped(&b, "why", x.Placement.Why)
	writeWrapped(&b, "warning", x.Warning)
	if len(x.Code) > 0 {
		b.WriteByte('\n')
	}
	for _, l := range x.Code {
		mark := "  "
		if l.Chosen {
			mark = "=>"
		}
		fmt.Fprintf(&b, "%s %+6d  %-11v  %-24.24s  %.30s\n", mark, l.Delta, l.Class, fmt.Sprintf("% x", l.Bytes), l.Text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeWrapped prints a row whose text goes on below itself.
func writeWrapped(b *strings.Builder, key, s string) {
	const width = 80 - 15
	for len(s) > 0 {
		line := s
		if len(line) > width {
			if at := strings.LastIndexByte(line[:width+1], ' '); at > 0 {
				line = line[:at]
			}
		}
		s = strings.TrimPrefix(s[len(line):], " ")
		fmt.Fprintf(b, "  %-12s %s\n", key, line)
		key = ""
	}
}

func or(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

// printable replaces control characters, which a file's symbol table may
// contain to write to the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' {
			return '?'
		}
		return r
	}, s)
}
