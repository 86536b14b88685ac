package pack

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// like makes a pack of another: its program, its versions and its probes, with some
// arguments or probes more. So what is known of an application is said once.
func (b *builder) like() {
	t := &b.text
	if len(t.Layout)+len(t.Dwarf)+len(t.Access) > 0 || t.Version != (versionText{}) {
		b.fail("$.like", "like: a pack that is like another has a name, what it is about, extra, and probes; nothing else")
		return
	}
	if IsFile(t.Like) || t.Like == t.Pack {
		b.fail("$.like", "like: %q: want the name of another pack", t.Like)
		return
	}
	base, err := load(t.Like, &b.file)
	if errors.Is(err, errLike) {
		b.fail("$.like", "like: pack %s is like another itself: name that", t.Like)
		return
	}
	if err != nil {
		b.fail("$.like", "like: %v", strings.TrimPrefix(err.Error(), "-e "))
		return
	}
	own := b.p
	b.p = base
	b.p.Name, b.p.About, b.p.File, b.p.isLike, b.p.builtIn, b.p.Private = own.Name, own.About, own.File, true, false, own.Private
	if len(own.Names)+len(own.Paths) > 0 || own.Symbol != "" {
		b.p.Names, b.p.Paths, b.p.Symbol = own.Names, own.Paths, own.Symbol
	}
	for _, name := range slices.Sorted(maps.Keys(t.Extra)) {
		i := slices.IndexFunc(b.p.probes, func(s probeSpec) bool { return s.name == name })
		if i < 0 {
			b.fail("$.extra."+name, "extra: pack %s has no probe %s", t.Like, name)
			continue
		}
		for j := range b.p.probes[i].variants {
			b.extras(fmt.Sprintf("$.extra.%s", name), &b.p.probes[i].variants[j], t.Extra[name])
		}
	}
	b.probes()
}

// extras gives a variant arguments that it can do without. What is wrong with one is
// told where it is in the file.
func (b *builder) extras(where string, v *variant, args []string) {
	for i, text := range args {
		at := fmt.Sprintf("%s[%d]", where, i)
		x := extra{text: text}
		with := *v
		with.extra = append(slices.Clone(v.extra), x)
		if _, err := with.declare(b.file, "/program", anyOffset); err != nil && b.err == nil {
			line, col := b.at(at)
			msg := err.Error()
			if e, ok := err.(*Error); ok {
				msg = e.Msg
			}
			b.err = &Error{b.file, line, col, msg}
		}
		b.placeholders(at, text)
		v.extra = append(v.extra, x)
	}
}

// anyOffset does to find out whether the rest of a declaration is right.
func anyOffset(string) (int64, bool) { return 8, true }
