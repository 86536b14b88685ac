package declare

import (
	"errors"
	"path"
	"strings"

	"github.com/tcap-dev/tcap/format"
)

// Limits of a declaration.
const (
	MaxText     = 16 << 10 // bytes kept of one text
	DefaultText = 4 << 10
	MaxAllText  = 40 << 10 // bytes kept of all texts of a probe
	maxNesting  = 32       // of brackets
)

// Parse reads a declaration. The error is an *[Error].
func Parse(source string) (out *Probe, err error) {
	defer func() {
		switch x := recover().(type) {
		case nil:
		case *Error:
			out, err = nil, x
		default:
			panic(x)
		}
	}()
	p := &parser{src: source, p: &Probe{Source: source}}
	if len(source) > maxSource {
		p.fail(0, "a declaration of %d bytes: it may have %d", len(source), maxSource)
	}
	p.place()
	p.arguments()
	p.options()
	p.filter()
	if p.skip(); p.at < len(p.src) {
		p.fail(p.at, "want (ARGUMENTS), {OPTIONS}, /FILTER/ or the end, not %s", p.rest())
	}
	p.check()
	return p.p, nil
}

// IsDeclaration reports whether s begins as a declaration does rather than as
// the name of a pack.
func IsDeclaration(s string) bool {
	kind, _, ok := strings.Cut(s, ":")
	return ok && kinds[Kind(kind)] != ""
}

// kinds are what comes after each kind.
var kinds = map[Kind]string{
	Uprobe: "PATH:FUNCTION", Uretprobe: "PATH:FUNCTION", USDT: "PATH:PROVIDER:NAME",
	Tracepoint: "CATEGORY:NAME", Kprobe: "FUNCTION", Kretprobe: "FUNCTION",
}

func (p *parser) place() {
	p.skip()
	start := p.at
	kind := Kind(p.word())
	want := kinds[kind]
	if want == "" {
		p.fail(start, "want uprobe, uretprobe, usdt, tracepoint, kprobe or kretprobe, not %q", p.src[start:p.at])
	}
	p.p.Kind = kind
	if p.at == len(p.src) || p.src[p.at] != ':' {
		p.fail(p.at, "after %s, want :%s", kind, want)
	}
	p.at++
	parts, cols := p.target()
	wanted := strings.Count(want, ":") + 1
	p.path(kind, want, parts, cols, wanted)
	p.p.Symbol = strings.Join(parts[len(parts)-min(wanted, 2):], ":")
	if !p.p.InKernel() && kind != USDT {
		p.p.Symbol = parts[len(parts)-1]
	}
	for i, s := range parts {
		if s == "" {
			p.fail(cols[i], "after %s:, want %s; here is nothing", kind, want)
		}
		if p.p.Exact && i == len(parts)-1 {
			continue
		}
		if _, err := path.Match(s, ""); err != nil {
			p.fail(cols[i], "%q is no pattern: [ has no ]", s)
		}
	}
}

// path checks how many parts there are, and takes the path from them.
func (p *parser) path(kind Kind, want string, parts []string, cols []int, wanted int) {
	switch {
	case p.p.InKernel() && len(parts) != wanted:
		p.fail(cols[0], "after %s:, want %s", kind, want)
	case p.p.InKernel():
		return
	case kind == USDT && len(parts) == 2: // any provider
		p.fail(cols[1], "after %s:, want %s; the provider can be *", kind, want)
	case len(parts) == 1 && strings.Trim(parts[0], "*") == "":
		p.fail(cols[0], "%s:%s would probe every program there is: say which file, as in %s:/usr/sbin/nginx:ngx_*", kind, parts[0], kind)
	case len(parts) < wanted:
		p.fail(cols[0], "after %s:, want %s; %q is one word", kind, want, parts[0])
	}
	p.p.Path = parts[0]
	if strings.Trim(p.p.Path, "*/") == "" {
		p.fail(cols[0], "%s:%s would probe every program there is: say which file, as in %s:/usr/sbin/nginx:ngx_*", kind, parts[0], kind)
	}
}

// target consumes the place, up to a space or a bracket that opens, and splits it
// at colons. A path may be in quotes, and a function. Two colons together are part of a C++ name.
func (p *parser) target() (parts []string, cols []int) {
	quoted := ""
	first := p.at
	if p.at < len(p.src) && p.src[p.at] == '"' && !p.p.InKernel() {
		quoted = p.quoted()
		if p.at == len(p.src) || p.src[p.at] != ':' {
			p.fail(p.at, "want : and a function after the path")
		}
		p.at++
		parts, cols = append(parts, quoted), append(cols, first)
	}
	start := p.at
	for p.at < len(p.src) && !isSpace(p.src[p.at]) && p.src[p.at] != '(' && p.src[p.at] != '{' {
		if (p.p.Kind == Uprobe || p.p.Kind == Uretprobe) && p.src[p.at] == '"' && p.src[p.at-1] == ':' {
			return p.exact(parts, cols, start)
		}
		p.at++
	}
	text := p.src[start:p.at]
	for i := 0; i <= len(text); i++ {
		if i < len(text) && strings.HasPrefix(text[i:], "::") {
			i++
			continue
		}
		if i == len(text) || text[i] == ':' {
			parts, cols = append(parts, text[:i]), append(cols, start)
			if i == len(text) {
				break
			}
			start += i + 1
			text, i = text[i+1:], -1
		}
	}
	return p.joinPath(parts, cols)
}

// exact consumes a function in quotes, which a colon is before.
func (p *parser) exact(parts []string, cols []int, start int) ([]string, []int) {
	if len(parts) == 0 {
		parts, cols = append(parts, p.src[start:p.at-1]), append(cols, start)
	}
	p.p.Exact = true
	cols = append(cols, p.at)
	return append(parts, p.quoted()), cols
}

// joinPath gives a path its colons back: what is too much belongs to it.
func (p *parser) joinPath(parts []string, cols []int) ([]string, []int) {
	wanted := strings.Count(kinds[p.p.Kind], ":") + 1
	extra := len(parts) - wanted
	if p.p.InKernel() || extra <= 0 {
		return parts, cols
	}
	parts = append([]string{strings.Join(parts[:extra+1], ":")}, parts[extra+1:]...)
	return parts, append([]int{cols[0]}, cols[extra+1:]...)
}

func (p *parser) arguments() {
	if !p.take("(") {
		return
	}
	if p.take(")") {
		return
	}
	for {
		p.skip()
		if len(p.p.Args) == format.MaxArgs {
			p.fail(p.at, "a probe has at most %d arguments", format.MaxArgs)
		}
		p.argument()
		if p.take(")") {
			return
		}
		p.need(",", "or ) after an argument")
	}
}

func (p *parser) argument() {
	start := p.at
	a := Arg{Col: start + 1}
	word := p.word()
	if word == "" {
		if p.peek() == '*' && strings.HasSuffix(p.src[:start], ".(") {
			p.fail(start, "a method of Go, as \"main.(*Conn).Serve\", goes in double quotes")
		}
		p.fail(start, "want an argument, as fd=u32(arg0->24), not %s", p.rest())
	}
	if p.peek() == '=' {
		p.take("=")
		a.Name = word
		p.skip()
		p.typed(&a)
	} else {
		p.at = start
		p.typed(&a)
		if a.Value.Base == BaseArg && len(a.Value.Steps) == 0 || a.Value.Base == BaseField {
			a.Name = a.Value.String()
		} else if len(a.Value.Steps) == 0 && a.Value.Base != BaseArg {
			a.Name = string(a.Value.Base)
		}
		if a.Name == "" || wordAt(a.Name) != a.Name {
			p.fail(start, "name what is read here: NAME=%s", strings.TrimSpace(p.src[start:p.at]))
		}
	}
	if a.Name == "duration" && a.Value.Base == BaseDuration {
		p.fail(start, "every call has its duration; it is recorded where the return is probed: declare uretprobe:")
	}
	probe := format.Probe{Name: "x", Declaration: p.p.Declaration("", "")}
	probe.Args = append(probe.Args, format.Argument{Name: a.Name, Type: a.Type})
	if err := probe.Check(); err != nil {
		p.fail(start, "%v", err)
	}
	p.p.Args = append(p.p.Args, a)
}

func (p *parser) options() {
	if !p.take("{") {
		return
	}
	for {
		p.skip()
		start := p.at
		switch word := p.word(); word {
		case "stack":
			p.p.Stack = true
		case "caller":
			p.p.Caller = true
		case "returns":
			p.p.Returns = true
			if p.p.Kind == USDT || p.p.Kind == Tracepoint {
				p.fail(start, "a %s is one moment and returns nothing", p.p.Kind)
			}
		default:
			p.at = start
			p.fail(start, "want stack, caller or returns, not %s", p.rest())
		}
		if p.take("}") {
			return
		}
		p.need(",", "or } after an option")
	}
}

// check is what can be said only of the whole.
func (p *parser) check() {
	sum := 0
	for i := range p.p.Args {
		if a := &p.p.Args[i]; a.Type == format.ArgStr || a.Type == format.ArgBuf {
			if sum += a.Limit; sum > MaxAllText {
				p.fail(a.Col-1, "the texts of a probe can have %d bytes in all: %s=%s(..., BYTES)", MaxAllText, a.Name, a.Type)
			}
		}
	}
	if p.p.InKernel() && p.p.Caller {
		p.fail(0, "a %s has no caller in a program; {stack} is the program's stack", p.p.Kind)
	}
}

// ErrorOf is the *Error in err, nil when there is none.
func ErrorOf(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
