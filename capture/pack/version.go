package pack

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// A version is numbers, the most significant first; missing ones are 0.
type version [4]int

func parseVersion(s string) (version, bool) {
	var v version
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) > len(v) {
		return v, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return v, false
		}
		v[i] = int(n)
	}
	return v, true
}

func (v version) compare(w version) int {
	for i := range v {
		if c := cmp.Compare(v[i], w[i]); c != 0 {
			return c
		}
	}
	return 0
}

// A constraint is conditions on a version which all must hold; none always does.
type constraint []bound

type bound struct {
	op string
	v  version
}

// parseConstraint reads conditions such as ">=7.0.1 <7.2".
func parseConstraint(s string) (constraint, error) {
	var c constraint
	for _, word := range strings.Fields(s) {
		var b bound
		for _, op := range []string{">=", "<=", "<", ">", "="} {
			if rest, ok := strings.CutPrefix(word, op); ok {
				b.op, word = op, rest
				break
			}
		}
		v, ok := parseVersion(word)
		if b.op == "" || !ok {
			return nil, fmt.Errorf("%q: want conditions as >=7.0.1 <7.2", s)
		}
		b.v = v
		c = append(c, b)
	}
	return c, nil
}

// allows reports whether a version satisfies all conditions.
func (c constraint) allows(v version) bool {
	for _, b := range c {
		d := v.compare(b.v)
		ok := false
		switch b.op {
		case ">=":
			ok = d >= 0
		case "<=":
			ok = d <= 0
		case ">":
			ok = d > 0
		case "<":
			ok = d < 0
		case "=":
			ok = d == 0
		}
		if !ok {
			return false
		}
	}
	return true
}
