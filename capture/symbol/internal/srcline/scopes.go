package srcline

import "debug/dwarf"

// Languages whose functions have scopes (DWARF 5, 7.12). A partial unit made by
// dwz may name none.
const (
	langNone        = 0x00
	langC89         = 0x01
	langC           = 0x02
	langCPlusPlus   = 0x04
	langC99         = 0x0c
	langCPlusPlus11 = 0x1a
	langRust        = 0x1c
	langC11         = 0x1d
	langCPlusPlus14 = 0x21
	langCPlusPlus17 = 0x2a
	langCPlusPlus20 = 0x2b
	langC17         = 0x2c
)

// scopeOf returns "namespace::class::" of a function that has no linkage name,
// which would tell it. GCC gives none to what is not visible outside of its
// file. The unit's scopes are collected when first asked.
func (d *Data) scopeOf(u *unit, off int) string {
	switch u.language {
	case langNone, langCPlusPlus, langCPlusPlus11, langCPlusPlus14, langCPlusPlus17, langCPlusPlus20, langRust:
	default:
		return ""
	}
	if u.scopes == nil {
		u.scopes = make(map[int]string)
		d.readScopes(u)
	}
	return u.scopes[off]
}

// readScopes notes the scope of each function that has one.
func (d *Data) readScopes(u *unit) {
	table := d.abbrevsOf(u)
	c := cursor{data: d.s.Info[:u.end], pos: u.first, big: d.big}
	scope, stack := "", []string(nil)
	for c.left() > 0 {
		from := c.pos
		code := c.uleb()
		if code == 0 {
			if len(stack) <= 1 {
				return
			}
			scope, stack = stack[len(stack)-1], stack[:len(stack)-1]
			continue
		}
		ab := table.get(code)
		if ab == nil {
			return
		}
		var e entry
		e.read(u, &c, ab)
		if c.bad || !d.spend(c.pos-from) {
			return
		}
		inner := scope
		switch ab.tag {
		case dwarf.TagNamespace, dwarf.TagClassType, dwarf.TagStructType, dwarf.TagUnionType:
			inner = d.innerScope(u, &e, scope)
		case dwarf.TagSubprogram:
			if scope != "" && e.linkage.form == 0 && e.name.form != 0 && d.grow(64) {
				u.scopes[from] = scope
			}
		}
		if ab.children {
			stack, scope = append(stack, scope), inner
		}
	}
}

// innerScope returns the scope that a namespace or class opens.
func (d *Data) innerScope(u *unit, e *entry, outer string) string {
	name := string(d.text(u, e.name))
	if name == "" && e.tag == dwarf.TagNamespace {
		name = "(anonymous namespace)"
	}
	if name == "" || len(outer)+len(name) > maxString || !e.children || !d.grow(len(outer)+len(name)) {
		return outer
	}
	return outer + name + "::"
}
