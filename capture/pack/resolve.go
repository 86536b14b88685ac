package pack

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/capture/probe"
)

// A Program is an executable that a pack's probes go into.
type Program struct {
	Open string // how this process opens it
	Path string // as declarations are to name it
}

// Found is what a pack makes of a program.
type Found struct {
	Version string // as the program has it, "" when it is not known
	Probes  []Probe
	Skipped []string // optional probes that the program has no place for, and why; a sentence each
}

// Resolve chooses variants and layouts by what a program is, and declares the
// probes for it.
func (p *Pack) Resolve(prog Program) (*Found, error) {
	e, err := probe.OpenELF(prog.Open)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", p.Name, err)
	}
	defer e.Close()
	x := &resolver{p: p, prog: prog, elf: e}
	found, err := x.run()
	if err != nil {
		return nil, fmt.Errorf("pack %s: %s: %w", p.Name, prog.Path, err)
	}
	return found, nil
}

type resolver struct {
	p       *Pack
	prog    Program
	elf     *probe.ELF
	text    string   // version
	texts   []string // all that looks like one, as far as the pack has no layout for any
	version version
	known   bool
	offsets map[string]int64
	names   map[string]bool // the program's functions that a variant may mean
}

func (x *resolver) run() (*Found, error) {
	if err := x.functions(); err != nil {
		return nil, err
	}
	if err := x.findVersion(); err != nil {
		return nil, err
	}
	x.findOffsets()
	found := &Found{Version: x.text}
	for i := range x.p.probes {
		spec := &x.p.probes[i]
		d, leftOut, err := x.choose(spec)
		if err != nil && !spec.optional {
			return nil, fmt.Errorf("probe %s: %w", spec.name, err)
		}
		if err != nil {
			found.Skipped = append(found.Skipped, fmt.Sprintf("probe %s of pack %s: %v", spec.name, x.p.Name, err))
			continue
		}
		if leftOut != "" {
			found.Skipped = append(found.Skipped, fmt.Sprintf("probe %s of pack %s: %s", spec.name, x.p.Name, leftOut))
		}
		found.Probes = append(found.Probes, Probe{
			Pack: x.p.Name, Name: x.p.Name + "." + spec.name, Role: spec.role, Decl: d, Optional: spec.optional, BuiltIn: x.p.builtIn,
			Checks: spec.checks,
		})
	}
	return found, nil
}

// findVersion takes, of what looks like a version in the program's text, the first
// that the pack has a layout for: there are the compiler's, too.
func (x *resolver) findVersion() error {
	if x.p.version == nil {
		return nil
	}
	found, err := findVersions(x.prog.Open, x.p.version, x.p.highest)
	if err != nil || len(found) == 0 {
		return err
	}
	x.use(found[0])
	for _, text := range found {
		v, _ := parseVersion(text) // it is one
		if l := x.layoutOf(v, true); l != nil && len(l.versions) > 0 {
			x.use(text)
			return nil
		}
	}
	x.texts = found
	return nil
}

func (x *resolver) use(text string) {
	x.text = text
	x.version, x.known = parseVersion(text)
}

// layoutOf is the layout of a version, in a program that has the function which the
// layout asks for; nil when there is none.
func (x *resolver) layoutOf(v version, known bool) *layout {
	for i := range x.p.layouts {
		l := &x.p.layouts[i]
		if (len(l.versions) == 0 || known && l.versions.allows(v)) && (l.function == "" || x.has(l.function)) {
			return l
		}
	}
	return nil
}

// findOffsets collects them: what this very program tells, by its own accessors or
// its debugging information, before what is known of its version.
func (x *resolver) findOffsets() {
	x.offsets = map[string]int64{}
	if l := x.layoutOf(x.version, x.known); l != nil {
		maps.Copy(x.offsets, l.offsets)
	}
	for function, names := range x.p.access {
		for i, off := range x.accessor(function, len(names)) {
			x.offsets[names[i]] = off
		}
	}
	for name, off := range dwarfOffsets(x.prog.Open, x.elf.BuildID(), x.missing()) {
		x.offsets[name] = off
	}
}

// accessor returns the offsets that a function of the program follows, if they are
// as many as the pack says.
func (x *resolver) accessor(function string, n int) []int64 {
	s, err := x.elf.Lookup(function)
	if err != nil {
		return nil
	}
	offsets := x.elf.Accessor(s)
	if len(offsets) < n {
		return nil
	}
	return offsets[:n]
}

// missing are the fields that debugging information is asked for: all that the
// accessors do not tell. The tables of versions do not count, they are about
// what is built as usual.
func (x *resolver) missing() map[string][]string {
	fields := maps.Clone(x.p.fields)
	for _, names := range x.p.access {
		for _, name := range names {
			if _, ok := x.offsets[name]; ok {
				delete(fields, name)
			}
		}
	}
	return fields
}

// functions collects the names that matter, in one walk over the tables.
func (x *resolver) functions() error {
	x.names = map[string]bool{}
	var patterns []string
	for _, l := range x.p.layouts {
		if l.function != "" {
			patterns = append(patterns, l.function)
		}
	}
	for i := range x.p.probes {
		for _, v := range x.p.probes[i].variants {
			patterns = append(patterns, v.symbol())
		}
	}
	err := x.elf.Each(func(s probe.Symbol) bool {
		for _, pat := range patterns {
			if ok, _ := path.Match(pat, s.Name); ok { // patterns that are none have matched nothing
				x.names[s.Name] = true
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("look for functions: %w", err)
	}
	return nil
}

// symbol is the function that a variant is about; "" when it is a mark.
func (v *variant) symbol() string {
	text := strings.TrimPrefix(v.text, "uretprobe:")
	if strings.HasPrefix(text, "usdt:") {
		return ""
	}
	name, _, _ := strings.Cut(text, "(")
	name, _, _ = strings.Cut(name, "{")
	return strings.TrimSpace(name)
}

// choose takes the first variant that fits: whose function the program has, whose
// version it is, and whose offsets are known. The second result says which
// arguments it has to do without, and why; "" when it has all.
func (x *resolver) choose(spec *probeSpec) (*declare.Probe, string, error) {
	var why []string
	for i := range spec.variants {
		v := &spec.variants[i]
		if missing := x.lacks(v); missing != "" {
			why = append(why, missing)
			continue
		}
		if len(v.versions) > 0 && !x.known {
			why = append(why, "its version is not known")
			continue
		}
		if !v.versions.allows(x.version) {
			why = append(why, "it is version "+x.text)
			continue
		}
		offset := func(name string) (int64, bool) { off, ok := x.offsets[name]; return off, ok }
		d, err := v.declare(x.p.File, x.prog.Path, offset)
		if missing := (errMissing{}); errors.As(err, &missing) {
			why = append(why, x.noLayout())
			continue
		}
		return d, v.leftOut(offset), err
	}
	return nil, "", errors.New(strings.Join(unique(why), "; "))
}

// noLayout says why offsets are missing, and what to do.
func (x *resolver) noLayout() string {
	if len(x.texts) > 1 {
		const most = 5
		return "the pack has a layout for none of what may be its version (" + strings.Join(x.texts[:min(len(x.texts), most)], ", ") + "): add it, or install debug symbols"
	}
	if x.text != "" {
		return "the layout of version " + x.text + " is not known to the pack: add it, or install debug symbols"
	}
	return "its version is not known, nor thereby its layout: install debug symbols"
}

// leftOut says which of the variant's extra arguments are not to be had.
func (v *variant) leftOut(offset func(string) (int64, bool)) string {
	var args []string
	for _, x := range v.extra {
		if _, missing := fill(x.text, offset); missing != "" {
			name, _, _ := strings.Cut(x.text, "=")
			args = append(args, fmt.Sprintf("%s (%s)", name, missing))
		}
	}
	if len(args) == 0 {
		return ""
	}
	return "not recorded, for their offsets are not known for this program: " + strings.Join(args, ", ")
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	return out
}

// lacks says that the program has not the function which a variant is about, and what is
// named alike; "" when it has it.
func (x *resolver) lacks(v *variant) string {
	symbol := v.symbol()
	if symbol == "" || x.has(symbol) {
		return ""
	}
	d, err := v.declare(x.p.File, x.prog.Path, anyOffset)
	if err != nil { // it was fine when the pack was read
		return err.Error()
	}
	find := x.elf.Functions
	if d.Exact {
		find = x.elf.Exactly
	}
	if found, err := find(d.Symbol); err == nil && len(found) > 0 { // a name as people write it
		return ""
	}
	return "it has no function " + d.Symbol + x.elf.Alike(d.Symbol)
}

func (x *resolver) has(pattern string) bool {
	for name := range x.names {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}
