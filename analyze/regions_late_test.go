package analyze

import (
	"testing"
	"time"

	"github.com/tcap-dev/tcap/format"
)

// TestRegionsToldLate: a thread unmaps or moves a range, another gets the range, and
// the other's call is told first. The range is the other's, until it gives it up.
func TestRegionsToldLate(t *testing.T) {
	const ms = int64(time.Millisecond)
	at := func(now int64, kind format.Kind, v ...uint64) format.Event {
		e := format.Event{Kind: kind, Time: now}
		copy(e.V[:], v)
		return e
	}
	anon := func(now int64, addr, length, nested uint64) format.Event {
		return at(now, format.KindMap, addr, length, 3, 0x22, ^uint64(0), nested)
	}
	unmap := func(now int64, addr, length uint64) format.Event { return at(now, format.KindUnmap, addr, length) }
	for name, c := range map[string]struct {
		events []format.Event
		want   []region // start, end, at
	}{
		"in order": {[]format.Event{anon(1, 0x10000, 0x4000, 0), unmap(2, 0x10000, 0x4000), anon(3, 0x10000, 0x4000, 0)},
			[]region{{start: 0x10000, end: 0x14000, at: 3}}},
		"unmap told late": {[]format.Event{anon(1, 0x10000, 0x4000, 0), anon(3, 0x10000, 0x4000, 0), unmap(4, 0x10000, 0x4000)},
			[]region{{start: 0x10000, end: 0x14000, at: 3}}},
		"and the new one ends, too": {[]format.Event{anon(1, 0x10000, 0x4000, 0), anon(3, 0x10000, 0x4000, 0),
			unmap(4, 0x10000, 0x4000), unmap(5, 0x10000, 0x4000)}, nil},
		"in the middle of what was unmapped": {[]format.Event{anon(1, 0x10000, 0x6000, 0), anon(3, 0x12000, 0x1000, 0), unmap(4, 0x10000, 0x6000)},
			[]region{{start: 0x12000, end: 0x13000, at: 3}}},
		"an allocator's range": {[]format.Event{anon(1, 0x10000, 0x4000, 1), anon(3, 0x10000, 0x4000, 0), unmap(4, 0x10000, 0x4000)},
			[]region{{start: 0x10000, end: 0x14000, at: 3}}},
		"mremap told late": {[]format.Event{anon(1, 0x10000, 0x4000, 0), anon(3, 0x10000, 0x1000, 0),
			at(4, format.KindRemap, 0x10000, 0x4000, 0x80000, 0x8000)},
			[]region{{start: 0x10000, end: 0x11000, at: 3}, {start: 0x80000, end: 0x88000, at: 1}}},
		"MAP_FIXED owes nothing": {[]format.Event{anon(1, 0x10000, 0x4000, 0), at(3, format.KindMap, 0x10000, 0x4000, 3, 0x32),
			unmap(4, 0x10000, 0x4000)}, nil},
		"the late end was lost": {[]format.Event{anon(1, 0x10000, 0x4000, 0), anon(3, 0x10000, 0x4000, 0), unmap(4+2000*ms, 0x10000, 0x4000)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newRegionTracker(nil)
			for i := range c.events {
				tr.event(&c.events[i], 1)
			}
			var got []region
			tr.tree(1).Ascend(func(r region) bool {
				got = append(got, r)
				return true
			})
			if len(got) != len(c.want) {
				t.Fatalf("mapped %+v, want %+v", got, c.want)
			}
			for i, r := range got {
				if w := c.want[i]; r.start != w.start || r.end != w.end || r.at != w.at || r.allocator {
					t.Errorf("mapped %+v, want %+v", r, w)
				}
			}
		})
	}
}
