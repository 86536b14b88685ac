package declare

import (
	"math"
	"strings"

	"github.com/tcap-dev/tcap/format"
)

// typed reads TYPE(VALUE), or a value whose type is its natural one.
func (p *parser) typed(a *Arg) {
	start := p.at
	t := format.ArgType(p.word())
	if !t.Known() || p.peek() != '(' {
		if p.peek() == '(' && t != "after" && t != "delta" {
			p.fail(start, "there is no type %q; there are u8 to u64, i8 to i64, bool, ptr, sym, str, buf and ipaddr", t)
		}
		p.at = start
		a.Value = p.value(false)
		a.Type, a.Bare = natural(&a.Value), true
		p.typeValue(&a.Value, a.Type, start)
		if a.Type == format.ArgStr {
			a.Limit = commLimit
		}
		return
	}
	p.take("(")
	a.Type = t
	a.Value = p.value(t.IsText())
	p.typeValue(&a.Value, t, start)
	switch t {
	case format.ArgStr:
		a.Limit = p.limit()
	case format.ArgBuf:
		p.need(",", "and the length after the address of a buf")
		n := p.length()
		a.Len = &n
		a.Limit = p.limit()
	case format.ArgIPAddr:
		a.Limit = 4
		if p.take(",") {
			at := p.at
			n, _ := p.number("the size of the address: 4 or 16")
			if n != 4 && n != 16 {
				p.fail(at, "an IP address has 4 or 16 bytes")
			}
			a.Limit = int(n)
		}
	}
	if a.Value.Base == BaseComm {
		a.Limit = commLimit
		if t != format.ArgStr {
			p.fail(start, "comm is a str")
		}
	}
	p.need(")", "after the value")
}

// commLimit is what the kernel keeps of a thread's name, bytes.
const commLimit = 16

// typeValue gives a number its type; an address that text is read at is a word.
func (p *parser) typeValue(v *Value, t format.ArgType, at int) {
	v.Type = t
	if t.IsText() {
		v.Type = format.ArgU64
	}
	if v.Base == BaseComm && (len(v.Steps) > 0 || v.Tail != 0) {
		p.fail(at, "comm is a text, not an address")
	}
	oneMoment := p.p.Kind == USDT || p.p.Kind == Tracepoint
	if (v.Base == BaseRetval || v.Base == BaseDuration) && oneMoment {
		p.fail(v.Col-1, "%s: a %s is one moment and returns nothing", v.Base, p.p.Kind)
	}
	if !v.Delta {
		return
	}
	if oneMoment {
		p.fail(at, "delta(): a %s is one moment and returns nothing", p.p.Kind)
	}
	if t == format.ArgBool || t == format.ArgPtr || t == format.ArgSym || t.IsText() {
		p.fail(at, "delta() is of a number, u8 to u64 or i8 to i64, not of a %s", t)
	}
}

// length is the length of a buf: a value that may have a type, or a number.
func (p *parser) length() Value {
	p.skip()
	start := p.at
	if c := p.peek(); c >= '0' && c <= '9' {
		n, _ := p.number("a length")
		if n > math.MaxInt32 {
			p.fail(start, "a length of %d bytes is too much", n)
		}
		return Value{Base: BaseNumber, N: int(n), Type: format.ArgU32, Col: start + 1}
	}
	t := format.ArgType(p.word())
	if t.Known() && p.peek() == '(' {
		if t.IsText() {
			p.fail(start, "a length is a number, not a %s", t)
		}
		p.take("(")
		v := p.value(false)
		p.typeValue(&v, t, start)
		p.need(")", "after the value")
		return v
	}
	p.at = start
	v := p.value(false)
	p.typeValue(&v, natural(&v), start)
	return v
}

// limit reads how many bytes of a text are kept.
func (p *parser) limit() int {
	if !p.take(",") {
		return DefaultText
	}
	p.skip()
	at := p.at
	n, negative := p.number("how many bytes are kept")
	if negative || n == 0 || n > MaxText {
		p.fail(at, "1 to %d bytes of a text can be kept", MaxText)
	}
	return int(n)
}

// value reads a value:
//
//	value = "after" "(" value ")" | "delta" "(" value ")" | term { "->" offset } [ ("+"|"-") offset ]
//	term  = name | "*" factor | "(" value ")"
//
// An offset at the end is where a number is read, which a pointer with an offset
// is good for; of a text, it is where the text begins.
func (p *parser) value(text bool) Value {
	p.skip()
	start := p.at
	if word := p.word(); (word == "after" || word == "delta") && p.peek() == '(' {
		return p.changing(word, text, start)
	}
	p.at = start
	v := p.chain()
	if v.Tail != 0 && !text {
		p.step(&v, 0, start)
	}
	return v
}

// changing reads the value in after() or delta(), of which the word has been read.
func (p *parser) changing(word string, text bool, start int) Value {
	p.take("(")
	v := p.value(text)
	p.need(")", "after the value")
	switch {
	case v.Late || v.Delta:
		p.fail(start, "after() and delta() do not go together")
	case len(v.Steps) == 0 && (!text || word == "delta"):
		p.fail(start, "%s() is for memory: %s does not change", word, v.String())
	case word == "delta" && v.AtReturn():
		p.fail(start, "delta() begins at the entry, where there is no %s", v.Base)
	}
	v.Late, v.Delta = word == "after", word == "delta"
	return v
}

// step follows the pointer that v is.
func (p *parser) step(v *Value, off int32, at int) {
	if len(v.Steps) == MaxDerefs {
		p.fail(at, "more than %d pointers to follow", MaxDerefs)
	}
	switch v.Base {
	case BaseArg, BaseRetval, BaseField:
	default:
		p.fail(at, "%s is no pointer", v.Base)
	}
	sum := int64(v.Tail) + int64(off)
	if sum != int64(int32(sum)) {
		p.fail(at, "an offset of %d bytes is too far", sum)
	}
	v.Steps, v.Tail = append(v.Steps, int32(sum)), 0
}

func (p *parser) chain() Value {
	p.depth++
	defer func() { p.depth-- }()
	if p.skip(); p.depth > maxNesting {
		p.fail(p.at, "more than %d brackets", maxNesting)
	}
	start := p.at
	var v Value
	switch {
	case p.take("*"):
		if p.peek() == '(' {
			p.take("(")
			v = p.chain()
			p.need(")", "after the address")
		} else {
			v = p.primary()
		}
		p.step(&v, 0, start)
	case p.take("("):
		v = p.chain()
		p.need(")", "after the value")
	default:
		v = p.primary()
	}
	for {
		p.skip()
		at := p.at
		switch {
		case p.take("->"):
			p.step(&v, p.offset(), at)
		case p.peek() == '+' || p.peek() == '-':
			sum := int64(v.Tail) + int64(p.offset())
			if sum != int64(int32(sum)) {
				p.fail(at, "an offset of %d bytes is too far", sum)
			}
			v.Tail = int32(sum)
		default:
			return v
		}
	}
}

func (p *parser) offset() int32 {
	p.skip()
	at := p.at
	n, negative := p.number("an offset in bytes")
	if n > math.MaxInt32 {
		p.fail(at, "an offset of %d bytes is too far", n)
	}
	if negative {
		return -int32(n)
	}
	return int32(n)
}

func (p *parser) primary() Value {
	p.skip()
	start := p.at
	if p.peek() == '*' {
		return p.chain()
	}
	word := p.word()
	v := Value{Base: Base(word), Col: start + 1}
	switch v.Base {
	case BaseRetval, BaseDuration, BasePid, BaseTid, BaseUid, BaseCgroup, BaseCPU, BaseComm:
		return v
	}
	if n, ok := argNumber(word); ok && p.p.Kind != Tracepoint {
		v.Base, v.N = BaseArg, n
		return v
	}
	if p.p.Kind == Tracepoint && word != "" {
		v.Base, v.Name = BaseField, word
		return v
	}
	if word == "" {
		p.fail(start, "want a value, as arg0, retval or *(arg0+24), not %s", p.rest())
	}
	p.fail(start, "there is no value %q; there are arg0 to arg%d, retval, duration, pid, tid, uid, cgroup, cpu and comm", word, maxArg)
	return v
}

// maxArg is the last argument that can be named.
const maxArg = 15

func argNumber(s string) (int, bool) {
	digits, ok := strings.CutPrefix(s, "arg")
	if !ok || len(digits) == 0 || len(digits) > 2 || digits[0] == '0' && len(digits) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, n <= maxArg
}
