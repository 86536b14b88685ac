package pack

import (
	"maps"
	"slices"
	"strings"

	"github.com/tcap-dev/tcap/format"
)

// roles are those that analyses know, with the arguments that they are nothing without.
// docs/packs.md describes them.
var roles = map[string][]string{
	format.RoleClose: nil, format.RoleRequest: nil, format.RoleSpawn: nil, format.RoleAnswer: nil,
	format.RoleQuery: {"sql"}, format.RolePrepare: {"statement", "sql"},
	format.RoleExecute: {"statement"}, format.RoleCommand: {"command"},
}

// role refuses a probe that no analysis would find, or make anything of.
func (b *builder) role(where string, spec *probeSpec) {
	if b.err != nil || spec.role == "" {
		return
	}
	needed, ok := roles[spec.role]
	if !ok {
		b.fail(where, "role: no analysis knows %q; there are %s", spec.role, strings.Join(slices.Sorted(maps.Keys(roles)), ", "))
	}
	for _, arg := range needed {
		if !b.reads(spec, arg) {
			b.fail(where, "role: of role %s the analysis needs the argument %s, which the probe does not read", spec.role, arg)
		}
	}
}
