package analyze

import (
	"math/rand/v2"

	"github.com/tcap-dev/tcap/format"
)

// A world simulates programs on several CPUs with one allocator per address
// space, and lists their events in an order in which a recorder may see them.
type world struct {
	stream
	rng   *rand.Rand
	now   int64
	loss  int // every so many events is lost; 0 none
	procs []*simProc
	next  uint32 // pid and space of the next process
}

type simProc struct {
	pid     uint32
	space   *simSpace
	pending []simRealloc // reallocs that have not returned
}

type simSpace struct {
	id   uint32
	live []uint64
	free []uint64
	uses int
}

// A simRealloc has begun: its old block is gone, its new one not yet there.
type simRealloc struct {
	old, addr uint64
	began     int64
}

// legal makes a stream that a kernel can produce.
func legal(rng *rand.Rand, loss int) *stream {
	w := &world{stream: stream{start: 1e12}, rng: rng, loss: loss, next: 10}
	w.spawn(&simSpace{})
	for len(w.procs) > 0 && len(w.events) < 150 {
		w.now += int64(1 + rng.IntN(12))
		w.step(rng.IntN(len(w.procs)))
	}
	for _, p := range w.procs {
		for len(p.pending) > 0 {
			w.now++
			w.returnRealloc(p)
		}
	}
	return &w.stream
}

func (w *world) spawn(s *simSpace) *simProc {
	w.next++
	if s.id == 0 {
		s.id = w.next
		for len(s.live)+len(s.free) < 6 {
			s.free = append(s.free, uint64(len(s.live)+len(s.free)+1)*16)
		}
	}
	s.uses++
	p := &simProc{pid: w.next, space: s}
	w.procs = append(w.procs, p)
	return p
}

func (w *world) emit(p *simProc, kind format.Kind, v ...uint64) {
	if w.loss > 0 && kind <= format.KindFree && w.rng.IntN(4+w.loss) == 0 {
		return
	}
	w.add(format.Task{Pid: p.pid, Tid: p.pid, Space: p.space.id}, w.now, kind, v...)
}

func take(rng *rand.Rand, list *[]uint64) uint64 {
	i := rng.IntN(len(*list))
	v := (*list)[i]
	*list = append((*list)[:i], (*list)[i+1:]...)
	return v
}

func (w *world) step(i int) {
	p := w.procs[i]
	s := p.space
	switch n := w.rng.IntN(60); {
	case n < 22:
		if len(s.free) > 0 {
			a := take(w.rng, &s.free)
			s.live = append(s.live, a)
			w.emit(p, format.KindAlloc, a, 8)
		}
	case n < 36:
		if len(s.live) > 0 {
			a := take(w.rng, &s.live)
			s.free = append(s.free, a)
			w.emit(p, format.KindFree, a)
		}
	case n < 44:
		if len(s.live) > 0 && len(s.free) > 0 {
			re := simRealloc{old: take(w.rng, &s.live), addr: take(w.rng, &s.free), began: w.now}
			s.free = append(s.free, re.old) // at once anyone's
			p.pending = append(p.pending, re)
		}
	case n < 54:

		w.returnRealloc(p)
	case n < 58 && len(w.procs) < 5:
		w.fork(p)
	default:
		w.endProc(i)
	}
}

func (w *world) returnRealloc(p *simProc) {
	if len(p.pending) == 0 {
		return
	}
	re := p.pending[0]
	p.pending = p.pending[1:]
	p.space.live = append(p.space.live, re.addr)
	w.emit(p, format.KindRealloc, re.old, re.addr, 8, 0, 0, uint64(w.now-re.began))
}

func (w *world) fork(p *simProc) {
	if w.rng.IntN(2) == 0 {
		child := w.spawn(p.space)
		w.emit(p, format.KindFork, uint64(child.pid), uint64(child.pid), uint64(p.space.id), 1, 0)
		return
	}
	if len(p.pending) > 0 || p.space.uses > 1 {
		return // a thread in the middle of realloc is not copied
	}
	copied := &simSpace{live: append([]uint64{}, p.space.live...), free: append([]uint64{}, p.space.free...)}
	child := w.spawn(copied)
	w.emit(p, format.KindFork, uint64(child.pid), uint64(child.pid), uint64(copied.id), 0, 0)
}

func (w *world) endProc(i int) {
	p := w.procs[i]
	for len(p.pending) > 0 {
		w.returnRealloc(p)
	}
	s := p.space
	s.uses--
	if w.rng.IntN(2) == 0 {
		w.next++
		fresh := &simSpace{id: w.next, free: []uint64{16, 32, 48, 64}, uses: 1}
		w.emit(p, format.KindExec, 0, uint64(fresh.id))
		p.space = fresh
		return
	}
	gone := uint64(0)
	if s.uses == 0 {
		gone = 1
	}
	w.emit(p, format.KindExit, 0, gone)
	w.procs = append(w.procs[:i], w.procs[i+1:]...)
}
