package capture

import (
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
)

// unfinished tells of the calls that threads are in when the recording ends. It
// comes after the probes were taken out.
func (c *callProbes) unfinished() error {
	var key uint64
	value := make([]byte, c.rooms.Value())
	it := c.r.objs.Callers.Iterate()
	for it.Next(&key, &value) {
		if err := c.unfinishedOf(value); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return c.r.note(true, fmt.Sprintf("the calls that were running when the recording ended are missing: %v", err))
	}
	return nil
}

func (c *callProbes) unfinishedOf(value []byte) error {
	v, err := view[bpf.RawCaller](value)
	if err != nil {
		return err
	}
	room := value[unsafe.Offsetof(v.Room):]
	for i := range min(int(v.Calls), len(v.Live)) {
		l := &v.Live[i]
		if l.Probe == 0 || int(l.Probe) > len(c.sites) || int(l.At)+int(l.Size) > len(room) {
			continue
		}
		s := c.sites[l.Probe-1]
		if s.program.Raw.Flags&uint16(bpf.RawProbeFlagProbeLateFilter) != 0 {
			continue
		}
		rec := room[l.At : l.At+l.Size]
		head, err := view[bpf.RawHdr](rec)
		if err != nil {
			return err
		}
		if dead := !c.r.alive[head.Pid] && ended(head.Pid); dead || int64(head.Time) > c.r.ended {
			continue
		}
		entry := head.Time
		head.Time = uint64(c.r.ended)
		head.Fn = uint8(bpf.RawOutcomeCallUnfinished)
		*(*uint64)(unsafe.Pointer(&rec[unsafe.Offsetof(bpf.RawCalled{}.Duration)])) = head.Time - entry
		*(*uint32)(unsafe.Pointer(&rec[unsafe.Offsetof(bpf.RawCalled{}.Faults)])) |= s.program.Raw.Late
		if err := c.tellCall(s, rec); err != nil {
			return err
		}
	}
	return nil
}

// remarks say what a reader should know of the declared probes. A pack is told of as
// a whole: that nothing was prepared, say, is nothing to warn of.
func (c *callProbes) remarks() error {
	byFilter := map[*Probe]uint64{}
	byPack := map[string]uint64{}
	for _, s := range c.sites {
		byFilter[s.spec] += s.hits
		byPack[s.spec.Pack] += s.hits
	}
	for _, name := range slices.Sorted(maps.Keys(byPack)) {
		if name != "" && byPack[name] == 0 {
			if err := c.r.note(true, fmt.Sprintf("pack %s: none of its probes was hit", name)); err != nil {
				return err
			}
		}
	}
	for spec, hits := range byFilter {
		if hits > 0 || spec.Pack != "" && spec.Decl.Filter == nil {
			continue
		}
		text := fmt.Sprintf("%s was never hit", spec.title())
		if spec.Decl.Filter != nil {
			text = fmt.Sprintf("no call passed the filter of %s (/%v/): record without it to see what the values are", spec.title(), spec.Decl.Filter)
		}
		if err := c.r.note(true, text); err != nil {
			return err
		}
	}
	if c.unentered > 0 {
		return c.r.note(false, fmt.Sprintf("%d returns were seen of calls that had begun before", c.unentered))
	}
	return nil
}

// title names a declaration for people.
func (p *Probe) title() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Decl.Place()
}

// bytesOf is the memory of v.
func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }
