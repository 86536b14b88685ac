package declare

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tcap-dev/tcap/format"
)

// address notes that an IP address is compared.
func (c *Cond) address(a *Arg) {
	if a.Type == format.ArgIPAddr {
		c.ip = a.Limit
	}
}

// compareAddress reads == "ADDRESS" or != "ADDRESS". What it makes are comparisons of
// numbers: of 16 bytes two of them, of which for != one is enough. The machines that are
// recorded on are little-endian, so the first byte is the lowest. An IPv4 address of 16 bytes
// is one that is mapped into IPv6.
func (p *parser) compareAddress(c *Cond) *Cond {
	if c.Op != OpEQ && c.Op != OpNE {
		p.fail(p.at, `an address is compared by == "..." or != "..."`)
	}
	if c.Value.Base == BaseField && len(c.Value.Steps) == 0 {
		p.fail(c.Col-1, "%s is a field; only addresses that a pointer leads to can be compared", c.Value.String())
	}
	p.skip()
	at := p.at
	ip, err := netip.ParseAddr(p.quoted())
	if err != nil || ip.Zone() != "" || c.ip == 4 && !ip.Is4() {
		p.fail(at, "want an IP address of %d bytes, in double quotes", c.ip)
	}
	part := func(off int32, t format.ArgType, n uint64) *Cond {
		v := c.Value
		v.Steps = slices.Clone(v.Steps)
		p.step(&v, off, c.Col-1)
		v.Type = t
		return &Cond{Op: c.Op, Value: v, Mask: ^uint64(0), Number: n, Arg: -1, Col: c.Col}
	}
	written := fmt.Sprintf("ipaddr(%s) %s %q", c.Value.String(), c.Op, ip)
	if c.ip == 4 {
		b := ip.As4()
		one := part(0, format.ArgU32, uint64(binary.LittleEndian.Uint32(b[:])))
		one.written = written
		return one
	}
	b := ip.As16()
	both := &Cond{Op: OpAnd, Arg: -1, Col: c.Col, written: written,
		Left: part(0, format.ArgU64, binary.LittleEndian.Uint64(b[:8])), Right: part(8, format.ArgU64, binary.LittleEndian.Uint64(b[8:]))}
	if c.Op == OpNE {
		both.Op = OpOr
	}
	return both
}
