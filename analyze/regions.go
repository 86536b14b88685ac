package analyze

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

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
}

// A regionTracker follows mmap, munmap, mremap and brk. A range that a later
// call overlaps is cut: munmap may name a part of a mapping or several at once,
// MAP_FIXED replaces what was there. A forked child's copies are not its own.
type regionTracker struct {
	c      *leakCollector
	spaces map[uint32]*btree.BTreeG[region]
	rows   map[uint32]*leakRow
	total  count
}

func newRegionTracker(c *leakCollector) *regionTracker {
	return &regionTracker{c: c, spaces: map[uint32]*btree.BTreeG[region]{}, rows: map[uint32]*leakRow{}}
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
		put(tree, own, e.V[format.MapAddr], e.V[format.MapLength], e.V[format.MapNested] != 0)
	case format.KindUnmap:
		cut(tree, e.V[format.UnmapAddr], e.V[format.UnmapLength])
	case format.KindRemap:
		t.remap(tree, own, e)
	case format.KindBrk:
		old, now := e.V[format.BrkOld], e.V[format.BrkNew]
		switch {
		case now < old:
			cut(tree, now, old-now)
		case old != 0:
			put(tree, own, old, now-old, e.V[format.BrkNested] != 0)
		}
	}
}

// remap moves a mapping. The new range keeps the stack and the time of the old
// one; an old length of 0 makes a second mapping of the same pages.
func (t *regionTracker) remap(tree *btree.BTreeG[region], own region, e *format.Event) {
	old, oldLen := e.V[format.RemapOld], e.V[format.RemapOldLength]
	from, known := regionAt(tree, old)
	if known {
		own = from
	}
	if oldLen > 0 {
		cut(tree, old, oldLen)
	}
	put(tree, own, e.V[format.RemapAddr], e.V[format.RemapLength], !known && e.V[format.RemapNested] != 0)
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

// put replaces a range; a range of an allocator only makes room.
func put(tree *btree.BTreeG[region], r region, addr, length uint64, allocator bool) {
	cut(tree, addr, length)
	length = min(pages(length), ^uint64(0)-addr)
	if length == 0 || allocator {
		return
	}
	r.start, r.end = addr, addr+length
	tree.ReplaceOrInsert(r)
}

// cut removes [addr, addr+length) from the regions.
func cut(tree *btree.BTreeG[region], addr, length uint64) {
	end := addr + min(pages(length), ^uint64(0)-addr)
	var hit []region
	tree.DescendLessOrEqual(region{start: addr}, func(r region) bool {
		if r.end > addr {
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
	}
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
	if how == endExec {
		return
	}
	tree.Ascend(func(r region) bool {
		t.add(r, at)
		return true
	})
}

func (t *regionTracker) add(r region, at int64) {
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
	t.Line("Mapped by the program and not unmapped: %s in %s", bytesOf(l.Total.Bytes), counted(l.Total.Blocks, "range"))
	t.Line("")
	for i := range l.Rows {
		r := &l.Rows[i]
		when := "at " + export.Duration(r.First)
		if r.Blocks > 1 {
			when = fmt.Sprintf("from %s to %s", export.Duration(r.First), export.Duration(r.Last))
		}
		t.Line("%s in %s, mapped %s", bytesOf(r.Bytes), counted(r.Blocks, "range"), when)
		t.Stack(r.Stack, "    ")
		t.Line("")
	}
}
