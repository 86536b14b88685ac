package analyze

// The matcher turns births and deaths of heap blocks, in file order, into
// blocks with a beginning and an end. It is the one place that knows the rules:
//
//   - A block is known by (address space, address). Pids and thread ids play
//     no part: they are reused, and any thread may free.
//   - A realloc that succeeded is an interval. The old block dies when the call
//     begins, the new one is born when it returns. In between another thread may
//     be handed the old address; the recorder then tells of that birth before
//     the realloc. The birth finds the old block still there: it is displaced,
//     and explained as soon as the realloc is seen.
//   - A displaced block that nothing explains was freed by an event that is
//     not in the file: an inferred free.
//   - A free where no block is live is one of a block from before the capture,
//     or a second free of the same block; sorting them out is secondFrees' job.
//   - fork copies the address space. The parent's blocks stay the parent's, and
//     only they can be leaks; the copies serve to know the child's frees of them.
//     A child that shares its parent's memory (vfork, posix_spawn) has the same
//     space number and needs nothing.
//   - exec and exit end an address space and the blocks in it.
type matcher struct {
	sink   blockSink
	lives  lifeSink                                   // the sink, if it asks for all of a life
	pid    func(task uint32) uint32                   // the process of a task
	onEnd  func(space uint32, at int64, how endOfMem) // an address space ended; may be nil
	spaces []*space
	ids    map[uint64]uint32 // key of a space -> index into spaces
	procs  map[uint32]uint32 // pid -> space that fork or exec gave it

	batches batches
	batch   uint32 // the one whose operations are being applied
	start   int64  // its time, ns
	latest  int64  // the greatest time of a birth so far, ns: a death after that needs no look at its block's
	warmed  uint64 // keeps the compiler from leaving warm's reads out

	displaced map[blockKey][]displacedBlock
	held      int // blocks in displaced

	inferred  uint64 // displaced blocks that nothing explained
	explained uint64 // displaced blocks that a realloc explained
	inherited uint64 // frees in a forked child of its copy of a parent's block
	unknown   []unknownFree
	overflow  uint64 // unknown frees beyond maxUnknown
}

// blockSink is told of the blocks that were never freed. The *block is valid
// during the call.
type blockSink interface {
	ended(b *block, at int64, how endOfMem) // its address space ended while it was live
}

// lifeSink is a blockSink that is told of births and deaths, too.
type lifeSink interface {
	blockSink
	born(b *block)                      // may set b.mark
	died(b *block, at int64, by uint32) // freed at a time by a task; task 0 when inferred
}

// endOfMem says how an address space ended.
type endOfMem uint8

const (
	endCapture endOfMem = iota // it did not: the recording stopped
	endExit
	endExec
)

type blockKey struct {
	addr  uint64
	space uint32
}

type displacedBlock struct {
	block
	at int64 // when the new block was born
}

// An unknownFree is a free of an address at which no block was live.
type unknownFree struct {
	addr  uint64
	ord   uint64
	time  int64
	space uint32
	task  uint32
	again bool // the space had inherited the block and freed it before
}

// maxUnknown bounds the memory for telling second frees from frees of older
// blocks, to 80 MiB. Beyond it they all count as frees of older blocks.
const maxUnknown = 2 << 20

// settleNs is the longest realloc that can explain a displaced block.
const settleNs = int64(1e9)

// maxHeld bounds the displaced blocks that wait for an explanation, to about
// 100 MiB. Only a capture that lost most of its frees has so many.
const maxHeld = 1 << 20

// maxHeldAt bounds those at one address, which are searched one by one. A realloc in
// progress can have as many after it as other threads were handed its old address, had
// it moved on and lost it again meanwhile: a few.
const maxHeldAt = 64

func newMatcher(sink blockSink, pid func(task uint32) uint32) *matcher {
	m := &matcher{
		sink:      sink,
		pid:       pid,
		ids:       map[uint64]uint32{},
		procs:     map[uint32]uint32{},
		batches:   make(batches, 1),
		latest:    minTime,
		displaced: map[blockKey][]displacedBlock{},
	}
	m.lives, _ = sink.(lifeSink)
	return m
}

// begin is told that the operations of another block of the file follow.
func (m *matcher) begin(start batchStart) {
	m.batch = uint32(len(m.batches))
	m.batches = append(m.batches, start)
	m.start = start.time
}

// ord is the place of an operation's event in the file.
func (m *matcher) ord(o *op) uint64 { return m.batches[m.batch].ord + uint64(o.at) }

// ahead is how many operations are looked up in advance. More cache misses than
// that a core does not wait for at once.
const ahead = 64

// A nearOp is what has been found out of an operation that is about to be applied.
type nearOp struct {
	hash  uint32 // of its address
	task  uint32
	space uint32 // index into matcher.spaces
}

// warm brings the lines that operations will need into the cache. The reads of a
// loop do not depend on each other, so that their misses overlap; those of take,
// behind branches that are hard to predict, would come one after the other, and
// take most of the time when live blocks are many.
func (m *matcher) warm(refs []opRef, near *[ahead]nearOp) {
	var sum uint64
	for i := range refs {
		n := &near[i]
		n.hash = hashAddr(refs[i].addr)
		sum += m.spaces[n.space].live.touch(n.hash)
	}
	for i := range refs {
		if refs[i].born() {
			sum += uint64(m.spaces[near[i].space].live.touchSlot(near[i].hash))
		}
	}
	if m.lives != nil { // who asks for lives reads what is known of a block, too
		for i := range refs {
			s := m.spaces[near[i].space]
			if at, ok := s.live.find(refs[i].addr, near[i].hash); ok {
				sum += uint64(s.live.slots[at.slot()].batch) + s.live.marks[at.slot()]
			}
		}
	}
	m.warmed += sum
}

// take applies an operation if it is one as nearly all are: a birth where no
// block is, or the death of one that is known. It returns false for the others,
// which apply takes.
func (m *matcher) take(r *opRef, near *nearOp, birth birthRef) bool {
	s := m.spaces[near.space]
	switch r.at >> atBits { // none of these is wide
	case uint32(opBirth):
		if _, found := s.live.find(r.addr, near.hash); found {
			return false
		}
		m.latest = max(m.latest, m.start+int64(r.after))
		at := s.live.insert(r.addr, near.hash)
		to := &s.live.slots[at.slot()] // field by field: as a whole it would be made elsewhere, and copied
		to.batch, to.at, to.after = m.batch, r.at, r.after
		to.size, to.stack, to.task = birth.size, birth.stack, near.task
		if m.lives != nil {
			m.tellBirth(s, at)
		}
		return true
	case uint32(opFree), uint32(opReallocOld):
		at, found := s.live.find(r.addr, near.hash)
		if !found || m.held != 0 {
			return false
		}
		time := m.start + int64(r.after)
		if time < m.latest && s.live.birth(at) > time {
			return false
		}
		if s.children != 0 || m.lives != nil {
			m.tellDeath(s, at, r.addr, m.batches[m.batch].ord+uint64(r.event()), time, near.task)
		}
		s.live.remove(at, near.hash)
		return true
	}
	return false
}

func (m *matcher) tellBirth(s *space, at place) {
	b := s.live.block(at)
	m.lives.born(&b)
	s.live.marks[at.slot()] = b.mark
}

func (m *matcher) tellDeath(s *space, at place, addr, ord uint64, time int64, task uint32) {
	b := s.live.block(at)
	s.bury(addr, &b, ord)
	m.died(&b, time, task)
}

func (m *matcher) died(b *block, at int64, by uint32) {
	if m.lives != nil {
		m.lives.died(b, at, by)
	}
}

// apply takes any operation.
func (m *matcher) apply(o *op) {
	switch o.code {
	case opBirth:
		m.birth(o)
	case opFree, opReallocOld:
		m.death(o)
	case opFork:
		m.fork(o)
	case opExec:
		m.exec(o)
	case opExit:
		m.exit(o)
	}
}

func (m *matcher) birth(o *op) {
	s := m.spaces[o.space]
	m.latest = max(m.latest, o.time)
	at, found := s.live.find(o.addr, o.hash)
	if found {
		m.displace(s, o, s.live.block(at))
		s.live.replace(at, o, m.batch)
	} else {
		at = s.live.insert(o.addr, o.hash)
		s.live.slots[at.slot()] = s.live.pack(o, m.batch)
	}
	if m.lives != nil {
		m.tellBirth(s, at)
	}
}

// displace puts a block aside at whose address another one is born.
func (m *matcher) displace(s *space, o *op, old block) {
	s.bury(o.addr, &old, m.ord(o))
	k := blockKey{o.addr, o.space}
	if list := m.displaced[k]; len(list) == maxHeldAt {
		m.infer(&list[0])
		m.displaced[k] = append(list[:0], list[1:]...)
	}
	m.displaced[k] = append(m.displaced[k], displacedBlock{old, o.time})
	if m.held++; m.held > maxHeld {
		m.settle(maxTime)
	}
}

func (m *matcher) death(o *op) {
	s := m.spaces[o.space]
	at, found := s.live.find(o.addr, o.hash)
	held := m.heldAt(o)
	if found {
		birth := s.live.birth(at)
		// A block born in the very nanosecond in which the realloc began is the
		// one that displaced the old block, if there is a displaced one.
		race := held >= 0 && o.code == opReallocOld && birth == o.time
		if birth <= o.time && !race {
			m.tellDeath(s, at, o.addr, m.ord(o), o.time, o.task)
			s.live.remove(at, o.hash)
			return
		}
	}
	if held >= 0 {
		d := m.takeHeld(blockKey{o.addr, o.space}, held)
		m.explained++
		m.died(&d.block, o.time, o.task)
		return
	}
	if s.parent != nil && s.freeInherited(m, o) {
		return
	}
	if len(m.unknown) == maxUnknown {
		m.overflow++
		return
	}
	_, again := s.freedAt[o.addr]
	m.unknown = append(m.unknown, unknownFree{o.addr, m.ord(o), o.time, o.space, o.task, again})
}

// heldAt finds the displaced block that a death can be of: the youngest that
// was born by then and displaced not before. It returns -1 when there is none.
func (m *matcher) heldAt(o *op) int {
	if m.held == 0 {
		return -1
	}
	best := -1
	for i, d := range m.displaced[blockKey{o.addr, o.space}] {
		if d.birth <= o.time && d.at >= o.time {
			best = i
		}
	}
	return best
}

func (m *matcher) takeHeld(k blockKey, i int) displacedBlock {
	list := m.displaced[k]
	d := list[i]
	if len(list) == 1 {
		delete(m.displaced, k)
	} else {
		m.displaced[k] = append(list[:i:i], list[i+1:]...)
	}
	m.held--
	return d
}

// settle gives up on the displaced blocks that no realloc at or after time t
// can explain: their frees are inferred, at the time of the birth that
// displaced them.
func (m *matcher) settle(t int64) {
	if m.held == 0 {
		return
	}
	for k, list := range m.displaced {
		keep := list[:0]
		for i := range list {
			d := &list[i]
			if d.at >= t {
				keep = append(keep, *d)
				continue
			}
			m.infer(d)
		}
		if len(keep) == 0 {
			delete(m.displaced, k)
		} else {
			m.displaced[k] = keep
		}
	}
}

// infer ends a displaced block by a free that the file does not have.
func (m *matcher) infer(d *displacedBlock) {
	m.inferred++
	m.held--
	m.died(&d.block, d.at, 0)
}

// finish ends the blocks that are still live when the capture ends, at time t.
func (m *matcher) finish(t int64) {
	m.settle(maxTime)
	for _, s := range m.spaces {
		s.live.each(func(_ uint64, b *block) { m.sink.ended(b, t, endCapture) })
	}
}

// spaceIndex returns the index of an address space by its key.
func (m *matcher) spaceIndex(key uint64) uint32 {
	i, ok := m.ids[key]
	if !ok {
		i = uint32(len(m.spaces))
		m.ids[key] = i
		m.spaces = append(m.spaces, &space{live: table{batches: &m.batches, marked: m.lives != nil}})
	}
	return i
}
