package capture

import (
	"maps"
	"slices"
	"time"

	"github.com/tcap-dev/tcap/format"
)

// A signature is what is known of a stack.
type signature struct {
	row     format.StackID
	end     format.StackEnd // EndUnknown until it is unwound
	dropped bool            // its snapshot found no room to wait
	events  uint64          // so far
}

// signatures are the stacks that the kernel may tell of by a number. So that a
// recording of hours does not hold on to all that there ever were, they are kept for two
// generations, as in [stackTable]: when a new one begins, the kernel is made to
// forget the signatures that it sent and the stacks that it learned, and what is in
// use still is sent, and learned, again. It keeps its row, as long as it comes at least once in a
// generation.
//
// A generation ends when it is full, or when there is no more room for what the kernel is to learn.
type signatures struct {
	young, old map[uint64]*signature
	limit      int

	cache [1 << 10]struct {
		id uint64
		s  *signature
	}
	stale   []uint64 // signatures of old that the kernel is still to forget
	settle  uint64   // position of the ring from which on no event has one of them; 0 until they are all forgotten
	settled bool     // the reader is beyond it
	since   time.Time
	begun   int    // generations, but the first
	gone    uint64 // signatures that are not kept any more
}

const (
	// fullSignatures is how many there are in a generation: as many as the kernel has
	// room for (signatures in bpf/snapshot.h).
	fullSignatures = 1 << 17
	// learnAnew is how old a generation is before it ends just to learn other stacks: those
	// that it has may all be in use.
	learnAnew = time.Minute
)

func newSignatures() signatures {
	return signatures{young: map[uint64]*signature{}, limit: fullSignatures, settled: true, since: time.Now()}
}

// find returns what is known of a signature, nil if nothing is, and whether it is of this generation.
func (t *signatures) find(id uint64) (s *signature, young bool) {
	if s = t.young[id]; s != nil {
		return s, true
	}
	return t.old[id], false
}

// get is find for each event.
func (t *signatures) get(id uint64) *signature {
	c := &t.cache[id%uint64(len(t.cache))]
	if c.id != id {
		s, _ := t.find(id)
		if s == nil {
			return nil
		}
		c.id, c.s = id, s
	}
	return c.s
}

// keepOn makes a signature one of this generation, since the kernel may have learned it
// in this one.
func (t *signatures) keepOn(id uint64) *signature {
	s, young := t.find(id)
	if s != nil && !young {
		t.young[id] = s
	}
	return s
}

// all are those that are kept.
func (t *signatures) all() []*signature {
	list := slices.Collect(maps.Values(t.young))
	for id, s := range t.old {
		if t.young[id] == nil {
			list = append(list, s)
		}
	}
	return list
}

// seen is how many there were.
func (t *signatures) seen() uint64 { return t.gone + uint64(len(t.all())) }

// age begins a new generation when it is time, and goes on making the kernel forget
// the one before. read and written are the positions of the ring's two ends: what the
// kernel forgot before a position was written is in no event behind it.
func (ss *snapshots) age(read, written uint64) {
	if ss == nil || ss.finished {
		return
	}
	now := ss.stale[:min(len(ss.stale), forgetAtOnce)]
	for _, id := range now {
		_ = ss.sent.Delete(id) // what it does not know, it will send anyway
	}
	ss.stale = ss.stale[len(now):]
	switch {
	case ss.settled:
		if len(ss.young) >= ss.limit || ss.unwinding != nil && ss.unwinding.Full() && time.Since(ss.since) >= learnAnew {
			ss.generation()
		}
	case len(ss.stale) > 0 || ss.unwinding != nil && !ss.unwinding.Forgotten():
	case ss.settle == 0:
		ss.settle = written
	default:
		ss.settled = read >= ss.settle
	}
}

// generation begins a new one.
func (ss *snapshots) generation() {
	for id, s := range ss.old {
		switch {
		case ss.young[id] == s:
		case s.end == format.EndUnknown && !s.dropped:
			ss.young[id] = s // it waits to be unwound
		default:
			ss.forget(s)
		}
	}
	ss.old, ss.young = ss.young, map[uint64]*signature{}
	clear(ss.cache[:])
	clear(ss.told) // to tell it once more does no harm
	ss.stale = slices.Collect(maps.Keys(ss.old))
	ss.settle, ss.settled, ss.since = 0, false, time.Now()
	ss.begun++
	if ss.unwinding != nil {
		ss.unwinding.Forget()
	}
}

// forget counts the events of a signature that is not kept any more.
func (ss *snapshots) forget(s *signature) {
	if s.dropped {
		s.end = format.EndDropped
		ss.w.EndStack(s.row, s.row, s.end)
	}
	ss.ended[s.end] += s.events
	ss.gone++
}
