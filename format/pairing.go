package format

// A pairing knows, while a capture is written, which births a death can refer
// to and where the next birth is to be expected. Of births it keeps those of the
// block that is being filled.
type pairing struct {
	live   spaceTables
	births []birth
	reuse  reuse
	bits   uint64 // of the addresses of all births, or'ed
}

type birth struct {
	addr, size uint64
	at         int64 // ns
}

// begin forgets the births of the block before.
func (p *pairing) begin() {
	p.births, p.bits = p.births[:0], 0
	p.reuse.reset(0)
}

// kill returns how many births ago the block was born that e ends at addr, or
// 0 when that was in another block of the file or is not known. number is that
// of this one, live the table of e's address space, nil when unknown.
func (p *pairing) kill(e *Event, addr uint64, sh *shape, number uint32, live *liveBlocks) (back uint64) {
	if live == nil {
		return 0
	}
	i := live.find(addr)
	if i < 0 {
		return 0
	}
	at := e.Time
	if sh.duration >= 0 {
		at -= int64(e.V[sh.duration])
	}
	s := live.slots[i]
	switch {
	case s.block != number:
		// The time of that birth is gone. Unless it was surely before
		// this death the block stays: the next birth here is then
		// marked as displacing it, and readers look closer.
		if at >= live.prior {
			live.remove(i)
		}
	case p.births[s.birth].at <= at:
		back = uint64(len(p.births)) - uint64(s.birth)
		live.remove(i)
	}
	// Otherwise the block at this address was born after this death:
	// another thread got the address before this event was written.
	return back
}

// died puts the block that was born back births ago on the list of its size and
// the task that ended it.
func (p *pairing) died(task TaskID, back uint64) {
	if back != 0 {
		b := &p.births[uint64(len(p.births))-back]
		p.reuse.freed(task, b.size, b.addr)
	}
}

func (p *pairing) born(addr, size uint64, at int64) {
	p.births = append(p.births, birth{addr, size, at})
	p.bits |= addr
}
