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
	pid    func(task uint32) uint32                   // the process of a task
	onEnd  func(space uint32, at int64, how endOfMem) // an address space ended; may be nil
	pool   pool
	spaces []*space
	ids    map[uint64]uint32 // key of a space -> index into spaces
	procs  map[uint32]uint32 // pid -> space that fork or exec gave it

	// Of the block of the file whose operations are being applied: which it is,
	// its first place in the file, and the latest birth that was before it.
	batch  uint32
	base   uint64
	prior  int64
	latest int64  // of all births up to now, ns
	warmed uint32 // keeps the compiler from leaving warm's reads out

	displaced map[blockKey][]displacedBlock
	held      int // blocks in displaced

	inferred  uint64 // displaced blocks that nothing explained
	explained uint64 // displaced blocks that a realloc explained
	inherited uint64 // frees in a forked child of its copy of a parent's block
	unknown   []unknownFree
	overflow  uint64 // unknown frees beyond maxUnknown
}

// blockSink is told what becomes of blocks. The *block is valid during the call.
type blockSink interface {
	born(b *block)                          // may set b.mark
	died(b *block, at int64, by uint32)     // freed at a time by a task; task 0 when inferred
	ended(b *block, at int64, how endOfMem) // its address space ended while it was live
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

func newMatcher(sink blockSink, pid func(task uint32) uint32) *matcher {
	return &matcher{
		sink:      sink,
		pid:       pid,
		ids:       map[uint64]uint32{},
		procs:     map[uint32]uint32{},
		displaced: map[blockKey][]displacedBlock{},
		prior:     minTime,
		latest:    minTime,
	}
}

// begin is told that the operations of another block of the file follow, whose
// first event has a place in it.
func (m *matcher) begin(base uint64) {
	m.batch++
	m.base, m.prior = base, m.latest
}

// ord is the place of an operation's event in the file.
func (m *matcher) ord(o *op) uint64 { return m.base + uint64(o.at) }

// ahead is how many operations are looked up in advance. More cache misses than
// that a core does not wait for at once.
const ahead = 64

// warm brings the slots and the rows that operations will need into the cache.
// The reads of a loop do not depend on each other, so that their misses overlap;
// those of apply, behind branches that are hard to predict, would come one
// after the other, and take most of the time when live blocks are many. A row
// that a death gives back is also the one that the next birth takes.
func (m *matcher) warm(refs []opRef, spaces []uint32) {
	var sum uint32
	for i := range refs {
		if s := m.spaces[spaces[i]].live.home(refs[i].hash); s != nil {
			sum += s.row
		}
	}
	for i := range refs {
		if c := refs[i].code(); c == opFree || c == opReallocOld {
			if s := m.spaces[spaces[i]].live.home(refs[i].hash); s != nil && s.row != 0 {
				sum += m.pool.at(s.row - 1).task
			}
		}
	}
	m.warmed += sum
}

// apply takes the next operation.
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
	var b *block
	if found {
		b = s.live.block(at)
		m.displace(s, o, b)
		s.live.slots[at].batch = m.batch
	} else {
		b = s.live.insert(at, o.addr, o.hash, m.batch)
	}
	*b = block{size: o.size, birth: o.time, ord: m.ord(o), stack: o.stack, task: o.task}
	m.sink.born(b)
}

// displace puts a block aside at whose address another one is born.
func (m *matcher) displace(s *space, o *op, old *block) {
	s.bury(o.addr, old, m.ord(o))
	k := blockKey{o.addr, o.space}
	m.displaced[k] = append(m.displaced[k], displacedBlock{*old, o.time})
	if m.held++; m.held > maxHeld {
		m.settle(maxTime)
	}
}

func (m *matcher) death(o *op) {
	s := m.spaces[o.space]
	at, found := s.live.find(o.addr, o.hash)
	held := m.heldAt(o)
	if found {
		b := s.live.block(at)
		// That a block of an earlier part of the file was born before is mostly
		// plain without its row, which is seldom in the cache.
		before := s.live.slots[at].batch != m.batch && o.time >= m.prior || b.birth <= o.time
		// A block born in the very nanosecond in which the realloc began is the
		// one that displaced the old block, if there is a displaced one.
		race := held >= 0 && o.code == opReallocOld && b.birth == o.time
		if before && !race {
			s.bury(o.addr, b, m.ord(o))
			m.sink.died(b, o.time, o.task)
			s.live.remove(at)
			return
		}
	}
	if held >= 0 {
		d := m.takeHeld(blockKey{o.addr, o.space}, held)
		m.explained++
		m.sink.died(&d.block, o.time, o.task)
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
			m.inferred++
			m.held--
			m.sink.died(&d.block, d.at, 0)
		}
		if len(keep) == 0 {
			delete(m.displaced, k)
		} else {
			m.displaced[k] = keep
		}
	}
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
		m.spaces = append(m.spaces, &space{live: newTable(&m.pool)})
	}
	return i
}
