package analyze

// A space is an address space: the memory of a process, or of several that
// share it.
type space struct {
	live table

	// A space that fork made is a copy of its parent as of the fork's place
	// in the file. Nothing is copied here: what the child inherited is what
	// the parent, its graveyard included, had then.
	parent  *space
	forked  uint64
	freedAt map[uint64]uint64 // where in the file inherited blocks were freed in this space, by address

	// children counts the copies of this space that can still be asked for
	// what they inherited. While there are any, dead blocks are kept.
	children int
	dead     map[uint64][]life
	gone     bool

	sharers map[uint32]struct{} // pids in this space, once a vfork made it shared
}

// maxGenerations bounds how many forks back an inherited block is looked for.
const maxGenerations = 64

// A life is the part of the file between the birth and the death of a block.
type life struct{ birth, death uint64 }

// bury remembers a block that dies while children may have a copy of it.
func (s *space) bury(addr uint64, b *block, ord uint64) {
	if s.children == 0 {
		return
	}
	if s.dead == nil {
		s.dead = map[uint64][]life{}
	}
	s.dead[addr] = append(s.dead[addr], life{b.ord, ord})
}

// had reports whether a block was live at addr just before a place in the file.
func (s *space) had(addr, ord uint64) bool {
	for depth := 0; s != nil && depth < maxGenerations; ord, s, depth = s.forked, s.parent, depth+1 {
		if at, ok := s.live.find(addr, hashAddr(addr)); ok && s.live.ord(at) < ord {
			return true
		}
		for _, l := range s.dead[addr] {
			if l.birth < ord && ord <= l.death {
				return true
			}
		}
		if at, ok := s.freedAt[addr]; ok && at < ord || s.forked >= ord {
			return false
		}
	}
	return false
}

// freeInherited takes a free in a forked space of an address at which it has
// no block of its own. It reports whether the free is accounted for.
func (s *space) freeInherited(m *matcher, o *op) bool {
	if _, ok := s.freedAt[o.addr]; ok || s.gone || !s.parent.had(o.addr, s.forked) {
		return false
	}
	if s.freedAt == nil {
		s.freedAt = map[uint64]uint64{}
	}
	s.freedAt[o.addr] = m.ord(o)
	m.inherited++
	return true
}

// fork handles proc.fork: op.addr is the key of the child's space, op.size its
// pid.
func (m *matcher) fork(o *op) {
	if o.stack&flagThread != 0 {
		return
	}
	s, pid := m.spaces[o.space], uint32(o.size)
	if o.stack&flagShared != 0 {
		if s.sharers == nil {
			s.sharers = map[uint32]struct{}{m.pid(o.task): {}}
		}
		s.sharers[pid] = struct{}{}
		m.procs[pid] = o.space
		return
	}
	i := m.spaceIndex(o.addr)
	m.procs[pid] = i
	child := m.spaces[i]
	if child == s || child.parent != nil || child.gone || s.gone {
		return
	}
	child.parent, child.forked = s, m.ord(o)
	s.children++
}

// exec handles proc.exec: op.addr is the number of the new space.
func (m *matcher) exec(o *op) {
	pid := m.pid(o.task)
	next, old := m.spaceIndex(spaceKey(uint32(o.addr), pid)), o.space
	if next == old { // the recorder already shows the task in its new space
		var ok bool
		if old, ok = m.procs[pid]; !ok || old == next {
			return
		}
	}
	m.procs[pid] = next
	if !m.leave(old, pid) {
		m.end(old, o, endExec)
	}
}

// exit handles proc.exit. Whether the memory went with the process is the
// kernel's word.
func (m *matcher) exit(o *op) {
	pid := m.pid(o.task)
	delete(m.procs, pid)
	m.leave(o.space, pid)
	if o.stack&flagGone != 0 {
		m.end(o.space, o, endExit)
	}
}

// leave takes a process out of a shared space and reports whether another
// still uses it.
func (m *matcher) leave(i, pid uint32) bool {
	s := m.spaces[i]
	delete(s.sharers, pid)
	return len(s.sharers) > 0
}

func (m *matcher) end(i uint32, o *op, how endOfMem) {
	s := m.spaces[i]
	if s.gone {
		return
	}
	if m.onEnd != nil {
		m.onEnd(i, o.time, how)
	}
	s.live.each(func(addr uint64, b *block) {
		s.bury(addr, b, m.ord(o))
		m.sink.ended(b, o.time, how)
	})
	s.live.clear()
	s.gone, s.sharers = true, nil
	s.release()
}

// release forgets the dead blocks of a space, and of its forebears, that no
// copy can be asked for any more.
func (s *space) release() {
	for s.gone && s.children == 0 && s.parent != nil {
		p := s.parent
		s.parent, s.freedAt, s.dead = nil, nil, nil
		if p.children--; p.children == 0 {
			p.dead = nil
		}
		s = p
	}
}
