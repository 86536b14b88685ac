package format

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Format appends the text of an event, one line without its end, and returns
// buf:
//
//	TIME PID/TID COMM KIND field=value ...
//
// TIME is in seconds since the start of the recording, with nine decimals.
// PID/TID is followed by @SPACE where the address space has another number
// than the process. Numbers are decimal, or hexadecimal with 0x; enums are
// names; a stack is the names of its functions, innermost first, joined by
// semicolons; the arguments of a call follow under the names that its probe
// declares. Fields of a table that are empty are left out. What holds
// spaces, quotes or control characters is quoted as a Go string. [Parse] reads
// such lines.
func Format(buf []byte, r *Reader, e *Event) []byte {
	buf = appendSeconds(buf, e.Time-r.header.Start.Mono)
	t := r.Task(e.Task)
	buf = append(buf, ' ')
	buf = strconv.AppendUint(buf, uint64(t.Pid), 10)
	buf = append(buf, '/')
	buf = strconv.AppendUint(buf, uint64(t.Tid), 10)
	if t.Space != t.Pid {
		buf = append(buf, '@')
		buf = strconv.AppendUint(buf, uint64(t.Space), 10)
	}
	buf = append(buf, ' ')
	buf = appendText(buf, t.Comm)
	buf = append(buf, ' ')
	info := r.KindInfo(e.Kind)
	buf = appendText(buf, info.Name)
	for i, f := range info.Fields {
		if f.Type == TypeBytes && e.Kind == KindCall {
			buf = appendCallArgs(buf, r, e)
			continue
		}
		if e.Kind == KindLoss && i == LossKind {
			buf = appendLossKind(buf, r, &f, e.V[i])
			continue
		}
		buf = appendField(buf, r, &f, e.V[i])
	}
	return buf
}

// FormatProbe appends the line by which [Parse] knows a probe, without its end,
// and returns buf.
func FormatProbe(buf []byte, p *Probe) []byte {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings only
	}
	return append(append(buf, "probe "...), text...)
}

func appendField(buf []byte, r *Reader, f *Field, v uint64) []byte {
	switch f.Type {
	case TypeString, TypeStack, TypeModule, TypeProbe:
		if v == 0 {
			return buf
		}
	}
	buf = append(buf, ' ')
	buf = appendText(buf, f.Name)
	buf = append(buf, '=')
	switch {
	case f.Type == TypeString:
		return appendText(buf, r.String(StringID(v)))
	case f.Type == TypeModule:
		return appendText(buf, r.Module(ModuleID(v)).Path)
	case f.Type == TypeProbe:
		return appendText(buf, r.probeName(ProbeID(v)))
	case f.Type == TypeStack:
		return appendStack(buf, r, v)
	case f.Type == TypeEnum && v < uint64(len(f.Enum)):
		return appendText(buf, f.Enum[v])
	case f.Type == TypeInt:
		return strconv.AppendInt(buf, int64(v), 10)
	case f.Hex:
		return strconv.AppendUint(append(buf, "0x"...), v, 16)
	default:
		return strconv.AppendUint(buf, v, 10)
	}
}

// appendLossKind names the kind that was lost; a number is one of a newer
// recorder's.
func appendLossKind(buf []byte, r *Reader, f *Field, v uint64) []byte {
	if v == 0 || v >= uint64(len(Kinds)) {
		return appendField(buf, r, f, v)
	}
	buf = append(append(append(buf, ' '), f.Name...), '=')
	return append(buf, Kinds[v].Name...)
}

// appendStack appends the functions of a stack. A stack of which nothing is
// known is its number.
func appendStack(buf []byte, r *Reader, v uint64) []byte {
	var frames [64]Frame
	stack := r.Stack(StackID(v), frames[:0])
	if len(stack) == 0 || v > 1<<32-1 {
		return strconv.AppendUint(append(buf, '#'), v, 10)
	}
	for i := range stack {
		if i > 0 {
			buf = append(buf, ';')
		}
		buf = appendText(buf, frameText(r, &stack[i]))
	}
	return buf
}

// frameText names a frame as well as can be: function, module and offset, or
// address.
func frameText(r *Reader, f *Frame) string {
	if f.Function != "" {
		return f.Function
	}
	at := "0x" + strconv.FormatUint(f.Offset, 16)
	if f.Module == 0 {
		return at
	}
	path := r.Module(f.Module).Path
	return path[strings.LastIndexByte(path, '/')+1:] + "+" + at
}

// appendSeconds appends ns as seconds with nine decimals.
func appendSeconds(buf []byte, ns int64) []byte {
	u := uint64(ns)
	if ns < 0 {
		buf, u = append(buf, '-'), -u
	}
	buf = strconv.AppendUint(buf, u/1e9, 10)
	buf = append(buf, '.')
	frac := u % 1e9
	for div := uint64(1e8); div > 0; div /= 10 {
		buf = append(buf, byte('0'+frac/div%10))
	}
	return buf
}

// appendText appends s as it is, or quoted where that could be misread or
// would disturb a terminal. The empty string is -.
func appendText(buf []byte, s string) []byte {
	if s == "" {
		return append(buf, '-')
	}
	if s == "-" || s[0] == '#' || needsQuotes(s) {
		return strconv.AppendQuoteToGraphic(buf, s)
	}
	return append(buf, s...)
}

func needsQuotes(s string) bool {
	for i, c := range s {
		switch {
		case c == ' ' || c == '"' || c == ';' || c == '=' || c == '\\':
			return true
		case c < utf8.RuneSelf:
			if c < ' ' || c == 0x7f {
				return true
			}
		case !unicode.IsGraphic(c) || unicode.IsSpace(c):
			return true
		case c == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return true
			}
		}
	}
	return false
}
