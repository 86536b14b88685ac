// Package export turns results into bytes: aligned text tables, folded stacks,
// pprof profiles and RFC 4180 records. What it writes may come from a hostile
// capture, so every name is escaped for the format it goes into.
package export

import (
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize/english"
)

// A Frame is one line of a stack; also its JSON form.
type Frame struct {
	Function string `json:"function"` // "" when unknown
	File     string `json:"file"`
	Line     uint32 `json:"line"`
	Module   string `json:"module"` // path; "" when the address lay in no file
	BuildID  string `json:"build_id,omitempty"`
	Offset   uint64 `json:"offset"` // file offset in the module; the raw address without one
	Inlined  bool   `json:"inlined,omitempty"`
}

// Name is what a reader calls the frame: the function, or module+0xoffset, or
// the address.
func (f *Frame) Name() string {
	switch {
	case f.Function != "":
		return f.Function
	case f.Module != "":
		return path.Base(f.Module) + "+0x" + strconv.FormatUint(f.Offset, 16)
	}
	return "0x" + strconv.FormatUint(f.Offset, 16)
}

// Place is where the frame's code is: file:line, or the module, or nothing.
func (f *Frame) Place() string {
	switch {
	case f.File != "" && f.Line != 0:
		return path.Base(f.File) + ":" + strconv.FormatUint(uint64(f.Line), 10)
	case f.File != "":
		return path.Base(f.File)
	case f.Function != "" && f.Module != "":
		return path.Base(f.Module)
	}
	return ""
}

// A Sample is a stack, innermost frame first, and what was measured there.
type Sample struct {
	Stack  []Frame
	Values []uint64
}

// Escape makes a name from a capture safe to print on a terminal and to put
// on one line: control characters, invalid UTF-8 and characters that reorder
// or hide text become \x, \u escapes.
func Escape(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= utf8.RuneSelf || s[i] == 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + hex(uint32(s[i]), 2))
		case r < ' ' || r == 0x7f:
			b.WriteString(`\x` + hex(uint32(r), 2))
		case !unicode.IsPrint(r) && r <= 0xffff:
			b.WriteString(`\u` + hex(uint32(r), 4))
		case !unicode.IsPrint(r):
			b.WriteString(`\U` + hex(uint32(r), 8))
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

func hex(v uint32, digits int) string {
	s := strconv.FormatUint(uint64(v), 16)
	return strings.Repeat("0", digits-len(s)) + s
}

// Cut shortens a name to at most width characters by leaving out its middle,
// because C++ names differ at both ends.
func Cut(s string, width int) string {
	n := utf8.RuneCountInString(s)
	if n <= width || width < 1 {
		return s
	}
	if width < 5 {
		return string([]rune(s)[:width])
	}
	r := []rune(s)
	head := (width - 1 + 1) / 2
	tail := width - 1 - head
	return string(r[:head]) + "…" + string(r[n-tail:])
}

// CutEnd shortens prose to at most width characters by leaving out its end.
func CutEnd(s string, width int) string {
	if width < 1 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// CutName is Cut for what has names of functions in it. Their template arguments, and
// the namespace that tells one ABI of libstdc++ from another, go before anything else:
// std::map<…>::insert tells more than std::map<int…sert. If that is not enough, the
// end of a name in a namespace stays.
func CutName(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	s = withoutArguments(strings.ReplaceAll(s, "std::__cxx11::", "std::"))
	r := []rune(s)
	if len(r) <= width || width < 8 || !strings.Contains(s, "::") {
		return Cut(s, width)
	}
	return "…" + string(r[len(r)-width+1:])
}

// withoutArguments puts an ellipsis between the outermost angle brackets, but for
// those that a name begins with, which are Rust's: <Vec<…> as Drop>::drop. What is
// not balanced is returned as it is.
func withoutArguments(s string) string {
	var b strings.Builder
	depth, rust := 0, strings.HasPrefix(s, "<")
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '<' && (i == 0 && rust || strings.HasSuffix(s[:i], "operator") || strings.HasSuffix(s[:i], "operator<")),
			c == '>' && i > 0 && (s[i-1] == '-' || strings.HasSuffix(s[:i], "operator") || strings.HasSuffix(s[:i], "operator>")),
			c == '>' && depth == 0 && rust:
			// part of a name
		case c == '<':
			if depth++; depth == 1 {
				b.WriteString("<…>")
			}
			continue
		case c == '>':
			if depth--; depth < 0 {
				return s
			}
			continue
		}
		if depth == 0 {
			b.WriteByte(c)
		}
	}
	if depth != 0 {
		return s
	}
	return b.String()
}

// Counted writes a number of things: "1 query", "1,024 queries".
func Counted(n uint64, unit string) string {
	return Count(n) + " " + english.PluralWord(int(min(n, 2)), unit, "")
}

// Count writes a number with separators between thousands.
func Count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bytes writes a size in the unit that suits it: "512 B", "1.5 MiB".
func Bytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.95 && unit < len(binaryUnits)-1 {
		v /= 1024
		unit++
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + binaryUnits[unit]
}

var binaryUnits = []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// Duration writes ns in the unit that suits them, with three decimals at most:
// "999 ns", "1.5 ms", "2.25 s", "1h2m3s".
func Duration(ns int64) string {
	sign, u := "", uint64(ns)
	if ns < 0 {
		sign, u = "-", -u
	}
	f := func(unit uint64, name string) string {
		v := strconv.FormatFloat(float64(u)/float64(unit), 'f', 3, 64)
		return sign + strings.TrimSuffix(strings.TrimRight(v, "0"), ".") + " " + name
	}
	switch {
	case u < 1e3:
		return sign + strconv.FormatUint(u, 10) + " ns"
	case u < 1e6-1:
		return f(1e3, "us")
	case u < 1e9-1e3:
		return f(1e6, "ms")
	case u < 60e9:
		return f(1e9, "s")
	}
	sec := u / 1e9
	out := sign
	if h := sec / 3600; h > 0 {
		out += strconv.FormatUint(h, 10) + "h"
	}
	return out + strconv.FormatUint(sec/60%60, 10) + "m" + strconv.FormatUint(sec%60, 10) + "s"
}
