package analyze

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/tcap-dev/tcap/format"
)

// unknownFrees tells the frees at which no block was live apart. The first of
// an address that the capture never saw born is one of a block from before the
// capture. Any other one is a second free of the same block (or, where births
// were lost, of a block that the capture lacks).
type unknownFrees struct{ before, twice uint64 }

// sortUnknown classifies the unknown frees of selected tasks. If there are any,
// it reads the births of the capture once more: remembering every address that
// ever was a block would cost memory in proportion to the file.
func (p *pass) sortUnknown(ctx context.Context) (unknownFrees, error) {
	u := unknownFrees{before: p.m.overflow}
	list := p.m.unknown
	if len(list) == 0 {
		return u, nil
	}
	slices.SortFunc(list, func(a, b unknownFree) int {
		switch {
		case a.addr != b.addr:
			return cmp.Compare(a.addr, b.addr)
		case a.space != b.space:
			return cmp.Compare(a.space, b.space)
		}
		return cmp.Compare(a.ord, b.ord)
	})
	born, err := p.firstBirths(ctx, list)
	if err != nil {
		return u, err
	}
	for i := range list {
		f := &list[i]
		if f.time < p.want.from || !p.want.task(format.TaskID(f.task)) {
			continue
		}
		first := i == 0 || list[i-1].addr != f.addr || list[i-1].space != f.space
		at, seen := born[blockKey{f.addr, f.space}]
		if f.again || !first || seen && at < f.ord {
			u.twice++
		} else {
			u.before++
		}
	}
	return u, nil
}

// birthAt is a birth at an address that is asked about.
type birthAt struct {
	addr, ord uint64
	task      uint32
}

// firstBirths returns where in the file the first block was born at each of
// the listed addresses, sorted by address.
func (p *pass) firstBirths(ctx context.Context, list []unknownFree) (map[blockKey]uint64, error) {
	asked := newAddrSet(list)
	work := func(b *format.Batch) any { return asked.births(b, p.want.to) }
	born := map[blockKey]uint64{}
	kinds := format.NewKindSet(format.KindAlloc, format.KindRealloc)
	for res, err := range p.r.Batches(format.Filter{Kinds: kinds}, work) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if isCorrupt(err) {
			continue // known from the first pass
		}
		if err != nil {
			return nil, fmt.Errorf("read the births of blocks freed twice: %w", err)
		}
		for _, b := range res.Value.([]birthAt) {
			k := blockKey{b.addr, p.tasks.space(b.task)}
			if _, ok := born[k]; !ok {
				born[k] = b.ord
			}
		}
	}
	return born, nil
}

// An addrSet is a set of addresses that many goroutines may ask.
type addrSet struct{ slots []uint64 }

func newAddrSet(list []unknownFree) addrSet {
	n := 64
	for n < 2*len(list) {
		n *= 2
	}
	s := addrSet{make([]uint64, n)}
	for _, f := range list {
		at := hashAddr(f.addr) & uint32(n-1)
		for s.slots[at] != 0 && s.slots[at] != f.addr {
			at = (at + 1) & uint32(n-1)
		}
		s.slots[at] = f.addr
	}
	return s
}

func (s addrSet) has(addr uint64) bool {
	mask := uint32(len(s.slots) - 1)
	for at := hashAddr(addr) & mask; s.slots[at] != 0; at = (at + 1) & mask {
		if s.slots[at] == addr {
			return true
		}
	}
	return false
}

// births returns the first birth in a block of the file at each address of the
// set, by task.
func (s addrSet) births(b *format.Batch, to int64) []birthAt {
	var out []birthAt
	seen := map[blockKey]bool{} // blockKey.space is the task here
	field := [...]int{format.KindAlloc: format.AllocAddr, format.KindRealloc: format.ReallocAddr}
	for i, k := range b.Kind {
		if k != format.KindAlloc && k != format.KindRealloc || b.Time[i] > to {
			continue
		}
		cols := b.Cols[k]
		if field[k] >= len(cols) || cols[field[k]] == nil {
			continue
		}
		addr := cols[field[k]][b.Row[i]]
		key := blockKey{addr, uint32(b.Task[i])}
		if !s.has(addr) || seen[key] {
			continue
		}
		seen[key] = true
		out = append(out, birthAt{addr, b.Info.EventsBefore + uint64(i), uint32(b.Task[i])})
	}
	return out
}
