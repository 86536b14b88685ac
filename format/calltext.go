package format

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// appendCallArgs appends the arguments of a call as name=value. One that could
// not be read is ?; text that was cut is quoted and followed by +N, the bytes
// that there were beyond, and another + if there may have been more. What cannot
// be decoded is args="bytes".
func appendCallArgs(buf []byte, r *Reader, e *Event) []byte {
	var c Call
	if err := r.Call(e, &c); err != nil {
		if len(e.Data) == 0 {
			return buf
		}
		return appendText(append(buf, " args="...), string(e.Data))
	}
	for i := range c.Args {
		buf = append(buf, ' ')
		buf = appendText(buf, c.Probe.Args[i].Name)
		buf = append(buf, '=')
		buf = appendArg(buf, r, c.Probe.Args[i].Type, &c.Args[i])
	}
	return buf
}

// AppendArg appends the value of an argument as text and as [Format] does.
func (r *Reader) AppendArg(buf []byte, t ArgType, a *Arg) []byte { return appendArg(buf, r, t, a) }

func appendArg(buf []byte, r *Reader, t ArgType, a *Arg) []byte {
	switch {
	case a.Fault:
		return append(buf, '?')
	case t == ArgBool: // whatever is not 0, as in C
		return strconv.AppendBool(buf, a.Num != 0)
	case t == ArgPtr:
		return strconv.AppendUint(append(buf, "0x"...), a.Num, 16)
	case t == ArgSym:
		f := r.Frame(FrameID(a.Num))
		return appendText(buf, frameText(r, &f))
	case t.Signed():
		return strconv.AppendInt(buf, int64(a.Num), 10)
	case t == ArgIPAddr && !a.Cut():
		if ip, ok := netip.AddrFromSlice(a.Text); ok {
			return append(buf, ip.String()...)
		}
	}
	switch {
	case !t.IsText():
		return strconv.AppendUint(buf, a.Num, 10)
	case a.Cut():
		buf = strconv.AppendQuoteToGraphic(buf, string(a.Text))
		buf = strconv.AppendInt(append(buf, '+'), int64(a.Len-len(a.Text)), 10)
		if a.AtLeast {
			buf = append(buf, '+')
		}
		return buf
	case string(a.Text) == "?" || t == ArgIPAddr:
		return strconv.AppendQuoteToGraphic(buf, string(a.Text))
	}
	return appendText(buf, string(a.Text))
}

// parseProbe reads a line that declares a probe: the word probe and its JSON.
func parseProbe(w *Writer, text string) error {
	var p Probe
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	_, err := w.Probe(p)
	return err
}

// probeNamed returns the number of a probe that has been declared.
func (w *Writer) probeNamed(name string) (ProbeID, error) {
	for i := range w.declared {
		if w.declared[i].Name == name {
			return ProbeID(i + 1), nil
		}
	}
	return 0, fmt.Errorf("no probe is named %q; declare it by a line before: probe {\"name\":%q,\"args\":[...]}", name, name)
}

// A textArg is an argument of a call as a line of text has it.
type textArg struct{ name, value string }

// parseArgs gives a call its data, from the arguments in its line. An argument
// that is left out is 0 or empty.
func parseArgs(w *Writer, e *Event, given []textArg) error {
	id := e.V[CallProbe]
	if id == 0 || len(given) > 0 && given[0].name == "args" {
		return parseRawArgs(e, given)
	}
	p := &w.declared[id-1]
	args := make([]Arg, len(p.Args))
	for _, g := range given {
		i := p.ArgIndex(g.name)
		if i < 0 {
			return fmt.Errorf("field %s: neither call nor probe %s has such a field", g.name, p.Name)
		}
		var err error
		if args[i], err = parseArg(w, p.Args[i].Type, g.value); err != nil {
			return fmt.Errorf("field %s: %w", g.name, err)
		}
	}
	e.Data, e.V[CallFaults] = AppendArgs(nil, p, args)
	return nil
}

func parseRawArgs(e *Event, given []textArg) error {
	if len(given) == 0 {
		return nil
	}
	if len(given) > 1 || given[0].name != "args" {
		return fmt.Errorf("field %s: call has no such field, and no probe that could have it", given[0].name)
	}
	s, err := unquote(given[0].value)
	e.Data = []byte(s)
	return err
}

func parseArg(w *Writer, t ArgType, value string) (a Arg, err error) {
	if value == "?" {
		return Arg{Fault: true}, nil
	}
	switch {
	case t == ArgBool && (value == "true" || value == "false"):
		if value == "true" {
			a.Num = 1
		}
	case t == ArgSym:
		name, err := unquote(value)
		if err != nil {
			return a, err
		}
		a.Num = uint64(w.Frame(Frame{Function: name}))
	case t.Signed():
		v, err := strconv.ParseInt(value, 0, 64)
		return Arg{Num: uint64(v)}, err
	case t.IsText():
		return parseArgText(t, value)
	default:
		a.Num, err = strconv.ParseUint(value, 0, 64)
	}
	return a, err
}

func parseArgText(t ArgType, value string) (Arg, error) {
	more, atLeast := 0, false
	if i := strings.LastIndexByte(value, '"'); i > 0 && i+1 < len(value) {
		digits, ok := strings.CutPrefix(value[i+1:], "+")
		digits, atLeast = strings.CutSuffix(digits, "+")
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || !ok {
			return Arg{}, errors.New(`want "text" or "text"+N, the bytes that were cut, or "text"+N+, where there may be more`)
		}
		value, more = value[:i+1], int(n)
	}
	s, err := unquote(value)
	if ip, ok := netip.ParseAddr(s); t == ArgIPAddr && ok == nil && ip.Zone() == "" {
		s = string(ip.AsSlice())
	}
	return Arg{Text: []byte(s), Len: len(s) + more, AtLeast: atLeast}, err
}

// args appends the arguments of a call as a JSON object: a number, an address
// as a string with 0x, a bool, a text, or null where it could not be read. Text
// that was cut is {"text":...,"length_bytes":N}; bytes that are no UTF-8 are
// {"hex":...,"length_bytes":N}. Where the length is only the least it may be,
// "length_at_least":true follows.
func (j *JSONEncoder) args(buf []byte, e *Event) []byte {
	if err := j.r.Call(e, &j.call); err != nil {
		return append(buf, "null"...)
	}
	buf = append(buf, '{')
	for i := range j.call.Args {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendJSONString(buf, j.call.Probe.Args[i].Name), ':')
		buf = j.r.AppendArgJSON(buf, j.call.Probe.Args[i].Type, &j.call.Args[i])
	}
	return append(buf, '}')
}

// AppendArgJSON appends the value of an argument as JSON.
func (r *Reader) AppendArgJSON(buf []byte, t ArgType, a *Arg) []byte {
	switch {
	case a.Fault:
		return append(buf, "null"...)
	case t == ArgBool:
		return strconv.AppendBool(buf, a.Num != 0)
	case t == ArgPtr, t == ArgSym:
		return appendJSONString(buf, string(appendArg(nil, r, t, a)))
	case !t.IsText():
		return appendArg(buf, r, t, a)
	case t == ArgIPAddr && !a.Cut():
		if ip, ok := netip.AddrFromSlice(a.Text); ok {
			return appendJSONString(buf, ip.String())
		}
	}
	switch cut := a.Cut(); {
	case !utf8.Valid(a.Text) && !(cut && utf8.Valid(cutRune(a.Text))):
		buf = append(buf, `{"hex":"`...)
		for _, c := range a.Text {
			buf = append(buf, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
		buf = append(buf, '"')
	case cut:
		buf = appendJSONString(append(buf, `{"text":`...), string(cutRune(a.Text)))
	default:
		return appendJSONString(buf, string(a.Text))
	}
	buf = strconv.AppendInt(append(buf, `,"length_bytes":`...), int64(a.Len), 10)
	if a.AtLeast {
		buf = append(buf, `,"length_at_least":true`...)
	}
	return append(buf, '}')
}

// cutRune drops the beginning of a rune that a text was cut in.
func cutRune(b []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-n:]) {
				return b[:len(b)-n]
			}
			break
		}
	}
	return b
}
