package declare

import (
	"fmt"
	"strconv"
	"strings"
)

// maxSource bounds a declaration, bytes.
const maxSource = 16 << 10

// parser reads one declaration. Its methods end the parse by a panic of
// *Error, which Parse catches.
type parser struct {
	src   string
	at    int
	depth int // of brackets
	p     *Probe
}

// fail ends the parse with an error at a byte of the source.
func (p *parser) fail(at int, format string, args ...any) {
	panic(&Error{p.src, at + 1, fmt.Sprintf(format, args...)})
}

func (p *parser) skip() {
	for p.at < len(p.src) && isSpace(p.src[p.at]) {
		p.at++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// peek returns the next byte that is no space, 0 at the end.
func (p *parser) peek() byte {
	p.skip()
	if p.at == len(p.src) {
		return 0
	}
	return p.src[p.at]
}

// take consumes s if it comes next.
func (p *parser) take(s string) bool {
	p.skip()
	if !strings.HasPrefix(p.src[p.at:], s) {
		return false
	}
	p.at += len(s)
	return true
}

// need consumes s or fails; where says what for.
func (p *parser) need(s, where string) {
	if !p.take(s) {
		p.fail(p.at, "want %s %s, not %s", s, where, p.rest())
	}
}

// rest names what comes next.
func (p *parser) rest() string {
	p.skip()
	if p.at == len(p.src) {
		return "the end"
	}
	word := p.src[p.at:]
	if n := len(wordAt(word)); n > 0 {
		word = word[:n]
	} else {
		word = word[:1]
	}
	return strconv.Quote(word)
}

// wordAt is the name at the beginning of s.
func wordAt(s string) string {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9' || i == 0) {
			return s[:i]
		}
	}
	return s
}

// word consumes a name, "" when there is none.
func (p *parser) word() string {
	p.skip()
	w := wordAt(p.src[p.at:])
	p.at += len(w)
	return w
}

// number consumes a number: decimal, 0x hexadecimal, 'c' or with a unit of
// time (5ms) or size (4k).
func (p *parser) number(what string) (n uint64, negative bool) {
	p.skip()
	start := p.at
	if negative = p.take("-"); !negative {
		p.take("+")
	}
	p.skip()
	end := p.at
	for end < len(p.src) && (wordAt(p.src[end:end+1]) != "" || p.src[end] >= '0' && p.src[end] <= '9') {
		end++
	}
	text := p.src[p.at:end]
	if text == "" || text[0] < '0' || text[0] > '9' {
		p.fail(p.at, "want %s, not %s", what, p.rest())
	}
	digits, unit := text, uint64(1)
	for _, u := range units {
		if s, ok := strings.CutSuffix(text, u.name); ok && !strings.HasPrefix(text, "0x") && !strings.HasPrefix(text, "0X") {
			digits, unit = s, u.factor
			break
		}
	}
	n, err := strconv.ParseUint(digits, 0, 64)
	if err != nil || unit > 1 && n > ^uint64(0)/unit {
		p.fail(start, "%q is no number of 64 bits; a number is 12, 0x1f, 5ms or 4k", text)
	}
	p.at = end
	return n * unit, negative
}

// units are the endings of numbers; of two that fit the longer comes first.
var units = []struct {
	name   string
	factor uint64
}{{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"k", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}}

// quoted consumes a text in double quotes, as Go writes it.
func (p *parser) quoted() string {
	p.skip()
	start := p.at
	q, err := strconv.QuotedPrefix(p.src[p.at:])
	if err != nil || q[0] != '"' {
		p.fail(start, `want a text in double quotes, not %s`, p.rest())
	}
	s, err := strconv.Unquote(q)
	if err != nil {
		p.fail(start, "%s is no text", q)
	}
	p.at += len(q)
	return s
}
