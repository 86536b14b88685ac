package declare

import (
	"fmt"
	"strings"

	"github.com/tcap-dev/tcap/format"
)

// MaxCompareText bounds a text that a filter compares with, bytes.
const MaxCompareText = 63

// MaxTerms bounds the comparisons and connections of a filter.
const MaxTerms = 24

func (p *parser) filter() {
	if !p.take("/") {
		return
	}
	start := p.at
	c := p.or()
	p.need("/", "at the end of the filter")
	if n := c.terms(); n > MaxTerms {
		p.fail(start, "the filter has %d comparisons and connections, it may have %d", n, MaxTerms)
	}
	p.p.Filter = c
}

func (c *Cond) terms() int {
	if c == nil {
		return 0
	}
	return 1 + c.Left.terms() + c.Right.terms()
}

func (p *parser) or() *Cond {
	c := p.and()
	for p.peek() == '|' {
		at := p.at
		p.need("||", "between conditions")
		c = &Cond{Op: OpOr, Left: c, Right: p.and(), Arg: -1, Col: at + 1}
	}
	return c
}

func (p *parser) and() *Cond {
	c := p.not()
	for p.peek() == '&' {
		at := p.at
		p.need("&&", "between conditions")
		c = &Cond{Op: OpAnd, Left: c, Right: p.not(), Arg: -1, Col: at + 1}
	}
	return c
}

func (p *parser) not() *Cond {
	p.depth++
	defer func() { p.depth-- }()
	if p.skip(); p.depth > maxNesting {
		p.fail(p.at, "more than %d brackets", maxNesting)
	}
	at := p.at
	if p.peek() == '!' {
		p.take("!")
		return &Cond{Op: OpNot, Left: p.not(), Arg: -1, Col: at + 1}
	}
	if p.peek() == '(' && p.groups() {
		p.take("(")
		c := p.or()
		p.need(")", "after the condition")
		return c
	}
	return p.comparison()
}

// groups reports whether the bracket that comes next holds a condition rather
// than a value with its mask: whether there is a comparison in it.
func (p *parser) groups() bool {
	depth, quoted := 0, false
	for i := p.at; i < len(p.src); i++ {
		switch c := p.src[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				next := strings.TrimLeft(p.src[i+1:], " \t\r\n")
				return next == "" || strings.ContainsRune("/&|)", rune(next[0])) && !isMask(next)
			}
		}
	}
	return true // the bracket that is missing will be told
}

func isMask(s string) bool { return s[0] == '&' && !strings.HasPrefix(s, "&&") }

// comparison reads VALUE [& MASK] [OP NUMBER], or TEXT OP "text".
func (p *parser) comparison() *Cond {
	start := p.at
	c := &Cond{Mask: ^uint64(0), Arg: -1, Col: start + 1}
	bracket := p.peek() == '(' && p.take("(")
	text := p.operand(c)
	if p.peek() == '&' && isMask(p.src[p.at:]) {
		if text || c.ip > 0 {
			p.fail(p.at, "a text or an address has no bits")
		}
		p.take("&")
		n, negative := p.number("the bits to look at")
		if c.Mask = n; negative {
			c.Mask = -n
		}
	}
	if bracket {
		p.need(")", "after the value")
	}
	c.Op = p.op()
	switch {
	case text:
		p.compareText(c)
		return c
	case c.ip > 0:
		return p.compareAddress(c)
	}
	if c.Op == "" {
		c.Op = OpNE
		return c
	}
	p.compareNumber(c)
	return c
}

// operand reads what is compared: an argument by its name, or a value with or
// without its type. It reports whether that is a text.
func (p *parser) operand(c *Cond) (text bool) {
	start := p.at
	p.skip()
	word := wordAt(p.src[p.at:])
	for i := range p.p.Args {
		a := &p.p.Args[i]
		if word == "" || a.Name != word {
			continue
		}
		if !follows(p.src[p.at+len(word):]) {
			break
		}
		p.at += len(word)
		if a.Type == format.ArgBuf {
			p.fail(start, "%s is of type %s: a filter compares numbers, str and ipaddr", word, a.Type)
		}
		c.Value, c.Arg, c.Bare = a.Value, i, a.Bare
		c.address(a)
		return a.Type == format.ArgStr
	}
	p.skip()
	at := p.at
	if word != "" && format.ArgType(word).Known() {
		var a Arg
		p.typed(&a)
		if a.Type == format.ArgBuf {
			p.fail(at, "a filter compares numbers, str and ipaddr, not %s", a.Type)
		}
		c.Value, c.Bare = a.Value, a.Bare
		c.address(&a)
		return a.Type == format.ArgStr
	}
	c.Value, c.Bare = p.value(false), true
	t := natural(&c.Value)
	p.typeValue(&c.Value, t, at)
	return t == format.ArgStr
}

// follows reports whether a name ends where s begins and nothing leads on from it.
func follows(s string) bool {
	s = strings.TrimLeft(s, " \t\r\n")
	return !strings.HasPrefix(s, "->") && !strings.HasPrefix(s, "+") && !strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "(")
}

func (p *parser) op() Op {
	for _, op := range []Op{OpEQ, OpNE, OpLE, OpGE, OpLT, OpGT} {
		if p.take(string(op)) {
			return op
		}
	}
	if p.peek() == '=' {
		p.fail(p.at, "equality is ==")
	}
	return ""
}

func (p *parser) compareText(c *Cond) {
	if c.Op != OpEQ && c.Op != OpNE {
		p.fail(p.at, `a text is compared by == "..." or != "..."`)
	}
	p.skip()
	at := p.at
	c.Text, c.IsText = p.quoted(), true
	if len(c.Text) > MaxCompareText {
		p.fail(at, "a text of %d bytes: a filter compares with up to %d", len(c.Text), MaxCompareText)
	}
	if strings.IndexByte(c.Text, 0) >= 0 {
		p.fail(at, "a str ends at a NUL and has none")
	}
}

func (p *parser) compareNumber(c *Cond) {
	p.skip()
	at := p.at
	if p.peek() == '"' && c.Value.Base == BaseField && c.Value.Type == natural(&c.Value) && c.Mask == ^uint64(0) {
		p.compareText(c) // what a field is, the kernel says
		return
	}
	if p.peek() == '"' {
		p.fail(at, "%s is a number; say str(%s) to compare a text", c.Value.String(), c.Value.String())
	}
	c.NumberCol = at + 1
	switch {
	case p.take("true"):
		c.Number = 1
	case p.take("false"):
	default:
		n, negative := p.number("a number to compare with")
		if c.Number, c.Negative = n, negative && n != 0; negative {
			c.Number = -n
		}
		if negative && n > 1<<63 {
			p.fail(at, "-%d is no number of 64 bits", n)
		}
	}
	if c.typedAtSite(p.p.Kind) {
		return
	}
	if why := c.Nonsense(c.Value.Type); why != "" {
		p.fail(at, "%s", why)
	}
}

// typedAtSite reports whether only the place tells the type of what is compared:
// the kernel of a field, its note of a mark's argument.
func (c *Cond) typedAtSite(k Kind) bool {
	v := &c.Value
	return c.Bare && len(v.Steps) == 0 && (v.Base == BaseField || v.Base == BaseArg && k == USDT)
}

// Nonsense says why a comparison with a number can only be a mistake where the value is of
// type t, since no value of the type would pass, or all; "" when it is fine.
func (c *Cond) Nonsense(t format.ArgType) string {
	name := c.Value.String()
	switch bits := c.Mask; {
	case c.NumberCol == 0:
		return ""
	case bits != ^uint64(0):
		if (c.Op == OpEQ || c.Op == OpNE) && c.Number&^bits != 0 && !c.Negative {
			return fmt.Sprintf("of the bits %#x none makes it %#x", bits, c.Number)
		}
		return ""
	case !t.Signed() && (c.Negative || c.Number == 0 && (c.Op == OpLT || c.Op == OpGE)):
		return fmt.Sprintf("%s is unsigned and never negative; declare it as i32(...) or i64(...)", name)
	}
	least, most := t.Range()
	if c.Negative && int64(c.Number) < least || !c.Negative && c.Number > most {
		return fmt.Sprintf("%s is of type %s, which is from %d to %d", name, t, least, most)
	}
	return ""
}
