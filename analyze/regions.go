package analyze

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/btree"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// Regions is the answer of --mmap: address ranges that the program mapped by
// its own system calls and that were still mapped at the end. What allocators
// map for themselves is left out; their blocks are in the leaks.
type Regions struct {
	Total Amount      `json:"total"` // blocks are ranges
	Rows  []RegionRow `json:"regions"`
}

// RegionRow is the ranges of one stack. Times are ns since the start of the
// recording.
type RegionRow struct {
	Amount
	First int64          `json:"first_ns"`
	Last  int64          `json:"last_ns"`
	Stack []export.Frame `json:"stack"`

	order string
}

// A region is a mapped range [start, end).
type region struct {
	start, end uint64
	at         int64 // when it was mapped, ns on the clock of the events
	stack      uint32
	task       uint32
	allocator  bool // mapped it for itself
}

// A regionTracker follows mmap, munmap, mremap and brk. A range that a later
// call overlaps is cut: munmap may name a part of a mapping or several at once,
// MAP_FIXED replaces what was there. A forked child's copies are not its own.
//
// Calls are told when they return, and between the moment when the kernel gives a
// range up and that, another thread can get the range and be told of first. The
// kernel never hands out a range that is mapped, unless MAP_FIXED demands it; so
// one that is born where another lives proves that the end of the other is still to
// be told. It is owed: when it comes, it ends the old one and not the new.
type regionTracker struct {
	c      *leakCollector
	spaces map[uint32]*btree.BTreeG[region]
	owed   map[uint32][]owedEnd // by space; nearly always empty
	rows   map[uint32]*leakRow
	total  count
}

// An owedEnd is a range that is known to have ended, and whose end is to be told.
type owedEnd struct {
	region
	known int64 // since when, ns
}

const (
	mapFixed = 0x10 // MAP_FIXED, the same on all architectures that are recorded
	// longestOwed is how long an end is waited for. It comes when its thread has
	// gone the last steps of the call; later, it was lost.
	longestOwed = int64(time.Second)

	// maxOwed bounds the ends that an address space waits for. Each is of a thread that is
	// between the kernel's work and its record.
	maxOwed = 1 << 10
)

func newRegionTracker(c *leakCollector) *regionTracker {
	return &regionTracker{c: c, spaces: map[uint32]*btree.BTreeG[region]{}, owed: map[uint32][]owedEnd{}, rows: map[uint32]*leakRow{}}
}

func (t *regionTracker) tree(space uint32) *btree.BTreeG[region] {
	tree := t.spaces[space]
	if tree == nil {
		tree = btree.NewG(16, func(a, b region) bool { return a.start < b.start })
		t.spaces[space] = tree
	}
	return tree
}

// event takes a mem.* event.
func (t *regionTracker) event(e *format.Event, space uint32) {
	tree := t.tree(space)
	own := region{at: e.Time, task: uint32(e.Task)}
	switch e.Kind {
	case format.KindMap:
		own.stack = uint32(e.V[format.MapStack])
		own.allocator = e.V[format.MapNested] != 0
		addr, length := e.V[format.MapAddr], e.V[format.MapLength]
		if e.V[format.MapFlags]&mapFixed == 0 {
			t.owe(tree, space, addr, length, e.Time)
		}
		put(tree, own, addr, length)
	case format.KindUnmap:
		t.unmap(tree, space, e.V[format.UnmapAddr], e.V[format.UnmapLength], e.Time)
	case format.KindRemap:
		t.remap(tree, own, e, space)
	case format.KindBrk:
		old, now := e.V[format.BrkOld], e.V[format.BrkNew]
		switch {
		case now < old:
			cut(tree, now, old-now)
		case old != 0:
			own.allocator = e.V[format.BrkNested] != 0
			put(tree, own, old, now-old)
		}
	}
}

// owe notes what lives where a new range is born.
func (t *regionTracker) owe(tree *btree.BTreeG[region], space uint32, addr, length uint64, now int64) {
	for _, r := range cut(tree, addr, length) {
		if list := t.owed[space]; len(list) == maxOwed {
			t.owed[space] = append(list[:0], list[1:]...)
		}
		t.owed[space] = append(t.owed[space], owedEnd{r, now})
	}
}

// settle takes off what is owed in a range, which the call at hand then told of.
func (t *regionTracker) settle(space uint32, addr, length uint64, now int64) (settled []region) {
	end := endOf(addr, length)
	var still []owedEnd
	for _, o := range t.owed[space] {
		if now-o.known > longestOwed {
			continue
		}
		if o.start >= end || addr >= o.end {
			still = append(still, o)
			continue
		}
		if left := o; left.start < addr {
			left.end = addr
			still = append(still, left)
		}
		if right := o; right.end > end {
			right.start = end
			still = append(still, right)
		}
		o.start, o.end = max(o.start, addr), min(o.end, end)
		settled = append(settled, o.region)
	}
	if len(still) == 0 {
		delete(t.owed, space)
	} else {
		t.owed[space] = still
	}
	return settled
}

// unmap ends a range, but for the parts of it that have a new owner already, of
// which it returns the old one.
func (t *regionTracker) unmap(tree *btree.BTreeG[region], space uint32, addr, length uint64, now int64) (settled []region) {
	if len(t.owed[space]) > 0 {
		settled = t.settle(space, addr, length, now)
	}
	slices.SortFunc(settled, func(a, b region) int { return cmp.Compare(a.start, b.start) })
	for _, r := range settled {
		if r.start > addr {
			cut(tree, addr, r.start-addr)
		}
		addr, length = max(addr, r.end), endOf(addr, length)-max(addr, r.end)
	}
	cut(tree, addr, length)
	return settled
}

// remap moves a mapping. The new range keeps the stack and the time of the old
// one; an old length of 0 makes a second mapping of the same pages.
func (t *regionTracker) remap(tree *btree.BTreeG[region], own region, e *format.Event, space uint32) {
	old, oldLen := e.V[format.RemapOld], e.V[format.RemapOldLength]
	from, known := regionAt(tree, old)
	if oldLen > 0 {
		if settled := t.unmap(tree, space, old, oldLen, e.Time); len(settled) > 0 && settled[0].start == old {
			from, known = settled[0], true
		}
	}
	own.allocator = e.V[format.RemapNested] != 0
	if known {
		own = from
	}
	put(tree, own, e.V[format.RemapAddr], e.V[format.RemapLength])
}

// pageSize rounds lengths as the kernel does. Where pages are larger, the
// recorder's addresses and lengths are multiples of more.
const pageSize = 4096

func pages(length uint64) uint64 {
	if length > ^uint64(0)-pageSize {
		return length
	}
	return (length + pageSize - 1) &^ (pageSize - 1)
}

// endOf is where a range ends, in whole pages.
func endOf(addr, length uint64) uint64 { return addr + min(pages(length), ^uint64(0)-addr) }

// put replaces a range.
func put(tree *btree.BTreeG[region], r region, addr, length uint64) {
	cut(tree, addr, length)
	if r.start, r.end = addr, endOf(addr, length); r.end > addr {
		tree.ReplaceOrInsert(r)
	}
}

// cut removes [addr, addr+length) from the regions, and returns what was there.
func cut(tree *btree.BTreeG[region], addr, length uint64) (gone []region) {
	end := endOf(addr, length)
	var hit []region
	tree.DescendLessOrEqual(region{start: addr}, func(r region) bool {
		if r.end > addr && end > addr {
			hit = append(hit, r)
		}
		return false
	})
	tree.AscendRange(region{start: addr + min(1, ^uint64(0)-addr)}, region{start: end}, func(r region) bool {
		hit = append(hit, r)
		return true
	})
	for _, r := range hit {
		tree.Delete(r)
		if left := r; left.start < addr {
			left.end = addr
			tree.ReplaceOrInsert(left)
		}
		if right := r; right.end > end {
			right.start = end
			tree.ReplaceOrInsert(right)
		}
		r.start, r.end = max(r.start, addr), min(r.end, end)
		gone = append(gone, r)
	}
	return gone
}

func regionAt(tree *btree.BTreeG[region], addr uint64) (found region, ok bool) {
	tree.DescendLessOrEqual(region{start: addr}, func(r region) bool {
		found, ok = r, r.end > addr
		return false
	})
	return found, ok
}

// ended is told when an address space ends or the capture does; those that an
// exec ends are not leaks.
func (t *regionTracker) ended(space uint32, at int64, how endOfMem) {
	tree := t.spaces[space]
	if tree == nil {
		return
	}
	delete(t.spaces, space)
	delete(t.owed, space)
	if how == endExec {
		return
	}
	tree.Ascend(func(r region) bool {
		t.add(r, at)
		return true
	})
}

func (t *regionTracker) add(r region, at int64) {
	if r.allocator {
		return
	}
	b := block{size: r.end - r.start, birth: r.at, stack: r.stack, task: r.task}
	if !t.c.selects(&b, at-r.at) {
		return
	}
	if v := t.c.verdict(r.stack); v.out {
		return
	} else if v.rule >= 0 {
		t.c.matched[v.rule].add(b.size)
		t.c.suppressed.add(b.size)
		return
	}
	t.total.add(b.size)
	row := t.rows[r.stack]
	if row == nil {
		row = &leakRow{first: r.at, last: r.at}
		t.rows[r.stack] = row
	}
	row.add(&b, at-r.at)
}

// finish ends what is still mapped and returns the result.
func (t *regionTracker) finish(at int64, c Capture) *Regions {
	for _, space := range slices.Collect(maps.Keys(t.spaces)) {
		t.ended(space, at, endCapture)
	}
	out := &Regions{Total: amount(t.total), Rows: []RegionRow{}}
	for stack, r := range t.rows {
		frames := t.c.stacks.get(stack)
		out.Rows = append(out.Rows, RegionRow{
			Amount: amount(r.total), First: c.Since(r.first), Last: c.Since(r.last),
			Stack: frames, order: export.FoldedName(frames),
		})
	}
	slices.SortFunc(out.Rows, func(a, b RegionRow) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.First, b.First), cmp.Compare(a.order, b.order))
	})
	return out
}

func (l *Regions) text(t *export.Text) {
	t.Para(fmt.Sprintf("Mapped by the program and not unmapped: %s in %s", bytesOf(l.Total.Bytes), counted(l.Total.Blocks, "range")), "  ")
	t.Line("")
	for i := range l.Rows {
		r := &l.Rows[i]
		when := "at " + export.Duration(r.First)
		if r.Blocks > 1 {
			when = fmt.Sprintf("from %s to %s", export.Duration(r.First), export.Duration(r.Last))
		}
		t.Para(fmt.Sprintf("%s in %s, mapped %s", bytesOf(r.Bytes), counted(r.Blocks, "range"), when), "  ")
		t.Stack(r.Stack, "    ")
		t.Line("")
	}
}
