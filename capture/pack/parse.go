package pack

import (
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/tcap-dev/tcap/capture/declare"
)

// The file as YAML has it.
type (
	fileText struct {
		Pack    string `yaml:"pack"`
		About   string `yaml:"about"`
		Private bool   `yaml:"private"`
		Like    string `yaml:"like"`
		Extra   map[string][]string
		Find    findText     `yaml:"find"`
		Version versionText  `yaml:"version"`
		Layout  []layoutText `yaml:"layout"`
		Dwarf   map[string]string
		Access  map[string][]string `yaml:"accessors"`
		Probes  []probeText         `yaml:"probes"`
	}
	findText struct {
		Names  []string `yaml:"names"`
		Paths  []string `yaml:"paths"`
		Symbol string   `yaml:"symbol"`
	}
	versionText struct {
		Strings string `yaml:"strings"`
		Pick    string `yaml:"pick"`
	}
	layoutText struct {
		Version  string           `yaml:"version"`
		Function string           `yaml:"function"`
		Offsets  map[string]int64 `yaml:"offsets"`
	}
	probeText struct {
		Name     string            `yaml:"name"`
		Role     string            `yaml:"role"`
		Optional bool              `yaml:"optional"`
		Probe    string            `yaml:"probe"`
		Extra    []string          `yaml:"extra"`
		Variants []variantText     `yaml:"variants"`
		Check    map[string]string `yaml:"check"`
	}
	variantText struct {
		Version string   `yaml:"version"`
		Probe   string   `yaml:"probe"`
		Extra   []string `yaml:"extra"`
	}
)

const (
	maxProbes  = 64
	maxNesting = 32 // levels of brackets in a file
)

// Parse reads a pack. What is wrong with it is an *[Error], with the line and the
// column.
func Parse(file string, text []byte) (*Pack, error) { return parse(file, text, false) }

// parse is Parse; a base, of which another pack is made, must not be like another.
func parse(file string, text []byte, base bool) (*Pack, error) {
	if tooDeep(text) {
		return nil, &Error{file, 1, 1, fmt.Sprintf("brackets are nested more than %d deep", maxNesting)}
	}
	var t fileText
	if err := yaml.UnmarshalWithOptions(text, &t, yaml.Strict()); err != nil {
		return nil, yamlError(file, err)
	}
	if base && t.Like != "" {
		return nil, errLike
	}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, yamlError(file, err)
	}
	if len(tree.Docs) > 1 {
		return nil, secondDocument(file, tree)
	}
	b := &builder{file: file, tree: tree, text: t}
	b.p = &Pack{Name: t.Pack, About: t.About, File: file, Names: t.Find.Names, Paths: t.Find.Paths, Symbol: t.Find.Symbol, access: t.Access, Private: t.Private}
	b.head()
	if t.Like != "" {
		b.like()
	} else {
		b.layouts()
		if len(t.Probes) == 0 {
			b.fail("$.probes", "probes: want 1 to %d", maxProbes)
		}
		b.probes()
	}
	if b.err != nil {
		return nil, b.err
	}
	return b.p, nil
}

// tooDeep: the YAML library recurses as deep as the brackets go.
func tooDeep(text []byte) bool {
	depth := 0
	for _, c := range text {
		switch c {
		case '[', '{':
			if depth++; depth > maxNesting {
				return true
			}
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return false
}

// yamlError takes the position out of an error of the library.
func yamlError(file string, err error) error {
	e := &Error{file, 1, 1, err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		e.Msg = y.GetMessage()
		if tok := y.GetToken(); tok != nil && tok.Position != nil {
			e.Line, e.Col = tok.Position.Line, tok.Position.Column
		}
	}
	e.Msg, _, _ = strings.Cut(e.Msg, "\n")
	return e
}

// secondDocument says that nothing is read behind the first.
func secondDocument(file string, tree *ast.File) error {
	e := &Error{file, 1, 1, "a pack is one document; put the second into a file of its own"}
	if d := tree.Docs[1]; d.Start != nil && d.Start.Position != nil {
		e.Line, e.Col = d.Start.Position.Line, d.Start.Position.Column
	}
	return e
}

// builder turns the text into a Pack; the first error stays.
type builder struct {
	file string
	tree *ast.File
	text fileText
	p    *Pack
	err  error
}

// at is the position of a value, by its path as of yaml.PathString.
func (b *builder) at(where string) (line, col int) {
	p, err := yaml.PathString(where)
	if err != nil {
		return 1, 1
	}
	node, err := p.FilterFile(b.tree)
	if err != nil || node == nil || node.GetToken() == nil {
		return 1, 1
	}
	pos := node.GetToken().Position
	line, col = pos.Line, pos.Column
	if s, ok := node.(*ast.StringNode); ok && s.Token.Value != "" && (s.Token.Origin != "" && strings.ContainsAny(strings.TrimSpace(s.Token.Origin)[:1], `'"`)) {
		col++ // behind the quote
	}
	return line, col
}

// isBlock reports whether a text is on several lines, which YAML joins.
func (b *builder) isBlock(where string) bool {
	p, err := yaml.PathString(where)
	if err != nil {
		return false
	}
	node, err := p.FilterFile(b.tree)
	if err != nil || node == nil || node.GetToken() == nil {
		return false
	}
	_, literal := node.(*ast.LiteralNode)
	return literal || strings.Contains(strings.TrimSpace(node.GetToken().Origin), "\n")
}

func (b *builder) fail(where, format string, args ...any) {
	if b.err == nil {
		line, col := b.at(where)
		b.err = &Error{b.file, line, col, fmt.Sprintf(format, args...)}
	}
}

var word = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

func (b *builder) head() {
	t := &b.text
	if !word.MatchString(t.Pack) {
		b.fail("$.pack", "pack: %q: want the pack's name, in small letters", t.Pack)
	}
	if t.Like == "" && len(t.Extra) > 0 {
		b.fail("$.extra", "extra: it belongs to a probe, or to a pack that is like another")
	}
	if len(t.Find.Names)+len(t.Find.Paths) == 0 && t.Find.Symbol == "" && t.Like == "" {
		b.fail("$.find", "find: say which program it is: names of executables, paths, or a symbol")
	}
	for i, n := range append(slices.Clone(t.Find.Names), t.Find.Paths...) {
		where := fmt.Sprintf("$.find.names[%d]", i)
		if j := i - len(t.Find.Names); j >= 0 {
			where = fmt.Sprintf("$.find.paths[%d]", j)
			if !strings.HasPrefix(n, "/") {
				b.fail(where, "%q: a path begins with /", n)
			}
		}
		if _, err := path.Match(n, ""); err != nil || n == "" {
			b.fail(where, "%q is no pattern", n)
		}
	}
	switch t.Version.Pick {
	case "", "first":
	case "highest":
		b.p.highest = true
	default:
		b.fail("$.version.pick", "pick: want first or highest, not %q", t.Version.Pick)
	}
	if t.Version.Strings != "" {
		re, err := regexp.Compile(t.Version.Strings)
		if err == nil && re.NumSubexp() != 1 {
			err = errors.New("it needs one group, around the version")
		}
		if err != nil {
			b.fail("$.version.strings", "strings: %v", err)
		}
		b.p.version = re
	}
	b.p.fields = map[string][]string{}
	for name, fields := range t.Dwarf {
		b.p.fields[name] = strings.Fields(fields)
		if len(b.p.fields[name]) == 0 {
			b.fail("$.dwarf."+name, "want TYPE.MEMBER")
		}
		for _, field := range b.p.fields[name] {
			if typ, member, ok := strings.Cut(field, "."); !ok || typ == "" || member == "" {
				b.fail("$.dwarf."+name, "%q: want TYPE.MEMBER", field)
			}
		}
	}
	for function, names := range t.Access {
		if function == "" || len(names) == 0 || slices.Contains(names, "") {
			b.fail("$.accessors."+function, "want names of the offsets that the function follows")
		}
	}
}

func (b *builder) layouts() {
	for i, l := range b.text.Layout {
		c, err := parseConstraint(l.Version)
		if err != nil {
			b.fail(fmt.Sprintf("$.layout[%d].version", i), "version: %v", err)
		}
		if _, err := path.Match(l.Function, ""); err != nil {
			b.fail(fmt.Sprintf("$.layout[%d].function", i), "function: %q is no pattern", l.Function)
		}
		for name, off := range l.Offsets {
			if off < math.MinInt32 || off > math.MaxInt32 {
				b.fail(fmt.Sprintf("$.layout[%d].offsets.%s", i, name), "%d is no offset", off)
			}
		}
		b.p.layouts = append(b.p.layouts, layout{c, l.Function, l.Offsets})
	}
}

func (b *builder) probes() {
	if n := len(b.p.probes) + len(b.text.Probes); n > maxProbes {
		b.fail("$.probes", "probes: want %d at most", maxProbes)
		return
	}
	names := map[string]bool{}
	for _, spec := range b.p.probes { // of the pack that this one is like
		names[spec.name] = true
	}
	for i, p := range b.text.Probes {
		where := fmt.Sprintf("$.probes[%d]", i)
		if !word.MatchString(p.Name) || names[p.Name] {
			b.fail(where+".name", "name: %q: want a word of small letters that no other probe of the pack has", p.Name)
		}
		names[p.Name] = true
		spec := probeSpec{name: p.Name, role: p.Role, optional: p.Optional}
		if (p.Probe == "") == (len(p.Variants) == 0) {
			b.fail(where, "probe %s: want either probe or variants", p.Name)
		}
		if p.Probe != "" {
			spec.variants = append(spec.variants, b.variant(where, "", p.Probe, p.Extra))
		}
		for j, v := range p.Variants {
			spec.variants = append(spec.variants, b.variant(fmt.Sprintf("%s.variants[%d]", where, j), v.Version, v.Probe, v.Extra))
		}
		b.checks(where, &spec, p.Check)
		b.checked(where, &spec)
		b.role(where+".role", &spec)
		b.p.probes = append(b.p.probes, spec)
	}
}

func (b *builder) variant(where, version, text string, extras []string) variant {
	v := variant{text: text}
	v.line, v.col = b.at(where + ".probe")
	v.block = b.isBlock(where + ".probe")
	var err error
	if v.versions, err = parseConstraint(version); err != nil {
		b.fail(where+".version", "version: %v", err)
	}
	if _, err := v.declare(b.file, "/program", anyOffset); err != nil && b.err == nil {
		b.err = err
	}
	b.placeholders(where+".probe", text)
	b.extras(where+".extra", &v, extras)
	return v
}

// placeholders refuses names of offsets that can never be known.
func (b *builder) placeholders(where, text string) {
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(options, m[1]) && !b.defined(m[1]) {
			b.fail(where, "{%s}: no layout, accessor or dwarf has this offset", m[1])
		}
	}
}

// defined reports whether an offset can be known at all.
func (b *builder) defined(name string) bool {
	if len(b.p.fields[name]) > 0 {
		return true
	}
	for _, names := range b.p.access {
		if slices.Contains(names, name) {
			return true
		}
	}
	return slices.ContainsFunc(b.p.layouts, func(l layout) bool { _, ok := l.offsets[name]; return ok })
}

func (b *builder) checks(where string, spec *probeSpec, checks map[string]string) {
	for arg, text := range checks {
		c := Check{Arg: arg}
		low, high, isRange := strings.Cut(text, "..")
		min, err1 := strconv.ParseInt(low, 0, 64)
		max, err2 := strconv.ParseInt(high, 0, 64)
		var err error
		if isRange && err1 == nil && err2 == nil {
			c.Min, c.Max = min, max
		} else if c.Text, err = regexp.Compile(text); err != nil {
			b.fail(where+".check."+arg, "check %s: %v", arg, err)
			continue
		}
		spec.checks = append(spec.checks, c)
	}
	slices.SortFunc(spec.checks, func(a, b Check) int { return strings.Compare(a.Arg, b.Arg) })
}

// checked: a check of what no variant reads would never fail.
func (b *builder) checked(where string, spec *probeSpec) {
	if b.err != nil {
		return
	}
	for _, c := range spec.checks {
		if !b.reads(spec, c.Arg) {
			b.fail(where+".check."+c.Arg, "check %s: the probe reads no such argument", c.Arg)
		}
	}
}

// reads reports whether a variant of the probe has an argument.
func (b *builder) reads(spec *probeSpec, arg string) bool {
	return slices.ContainsFunc(spec.variants, func(v variant) bool {
		d, err := v.declare(b.file, "/program", anyOffset)
		return err == nil && slices.ContainsFunc(d.Args, func(a declare.Arg) bool { return a.Name == arg })
	})
}

var placeholder = regexp.MustCompile(`\{([a-z][a-z0-9_]*)\}`)

// options are the words that a declaration itself has in braces.
var options = []string{"stack", "caller", "returns"}

// fill puts offsets in the place of their names; the second result is the first
// that is not known.
func fill(text string, offset func(string) (int64, bool)) (string, string) {
	missing := ""
	out := placeholder.ReplaceAllStringFunc(text, func(m string) string {
		name := m[1 : len(m)-1]
		if slices.Contains(options, name) {
			return m
		}
		off, ok := offset(name)
		if !ok && missing == "" {
			missing = name
		}
		return strconv.FormatInt(off, 10)
	})
	return out, missing
}

// errMissing is the error of an offset that is not known for a program.
type errMissing struct{ name string }

func (e errMissing) Error() string { return "the offset " + e.name + " is not known for this version" }

// declare makes the declaration for a program at a path.
func (v *variant) declare(file, path string, offset func(string) (int64, bool)) (*declare.Probe, error) {
	text, missing := fill(v.text, offset)
	if missing != "" {
		return nil, errMissing{missing}
	}
	for _, x := range v.extra {
		arg, missing := fill(x.text, offset)
		if missing == "" {
			text = addArgument(text, arg)
		}
	}
	prefix := "uprobe:" + path + ":"
	for _, kind := range []string{"uretprobe:", "usdt:"} {
		if rest, ok := strings.CutPrefix(text, kind); ok {
			prefix, text = kind+path+":", rest
		}
	}
	d, err := declare.Parse(prefix + text)
	if err == nil {
		return d, nil
	}
	e := &Error{file, v.line, v.col, err.Error()}
	if de := declare.ErrorOf(err); de != nil {
		// Offsets that were put in shift what is behind them.
		e.Msg, e.Col = de.Msg, v.col+max(de.Col-1-len(prefix), 0)
		if text != v.text {
			e.Col = v.col + column(v.text, max(de.Col-1-len(prefix), 0), offset)
		}
		if v.block { // where its lines are is not known any more
			at := min(e.Col-v.col, len(v.text))
			e.Msg += ", at " + strconv.Quote(v.text[at:min(at+20, len(v.text))])
			e.Col = v.col
		}
	}
	return nil, e
}

// addArgument puts one more argument in front of the closing bracket.
func addArgument(text, arg string) string {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				inside := strings.TrimSpace(text[strings.IndexByte(text, '(')+1 : i])
				if inside != "" {
					arg = ", " + arg
				}
				return text[:i] + arg + text[i:]
			}
		}
	}
	return text + "(" + arg + ")"
}

// column is where in text, before offsets were put in, a place of the result is.
func column(text string, at int, offset func(string) (int64, bool)) int {
	shift := 0
	for _, m := range placeholder.FindAllStringIndex(text, -1) {
		put, _ := fill(text[m[0]:m[1]], offset)
		if m[0]-shift+len(put) > at {
			return min(at+shift, m[1])
		}
		shift += m[1] - m[0] - len(put)
	}
	return at + shift
}
