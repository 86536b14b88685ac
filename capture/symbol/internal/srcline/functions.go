package srcline

import (
	"cmp"
	"debug/dwarf"
	"slices"
	"sort"
)

// functions are those of one unit that have code, with what is inlined in them.
type functions struct {
	nodes  []node      // in the order of the file: parents before children
	ranges []codeRange // of all nodes
	tops   []codeRange // of those that are not inlined, by address
}

// node is a function or an inlined call of one.
type node struct {
	entry              int   // offset in .debug_info
	parent             int32 // the node it is inlined in, -1 for none
	end                int32 // the node after its last descendant
	firstRange         int32
	numRanges          int32
	callFile, callLine uint32 // of an inlined call
	start              uint64 // address
}

type codeRange struct {
	low, high uint64
	node      int32
}

const nodeBytes, rangeBytes = 56, 24

// functionsOf returns the unit's functions, decoding them when first asked.
func (d *Data) functionsOf(u *unit) *functions {
	if u.functions == nil {
		u.functions = &functions{}
		w := walker{d: d, u: u, f: u.functions, table: d.abbrevsOf(u), open: -1}
		w.walk()
		u.functions.finish()
	}
	return u.functions
}

// walker goes through the entries of a unit.
type walker struct {
	d     *Data
	u     *unit
	f     *functions
	table *abbrevTable
	c     cursor
	open  int32   // the node that the next entry is in, or -1
	stack []int32 // open, for the levels above
}

func (w *walker) walk() {
	w.c = cursor{data: w.d.s.Info[:w.u.end], pos: w.u.first, big: w.d.big}
	skipTypes := w.typesHoldNoCode()
	for w.c.left() > 0 {
		from := w.c.pos
		code := w.c.uleb()
		if code == 0 {
			if !w.up() {
				return
			}
			continue
		}
		ab := w.table.get(code)
		if ab == nil {
			w.d.fail(errTruncated)
			return
		}
		inside := w.open
		switch {
		case ab.tag == dwarf.TagSubprogram || ab.tag == dwarf.TagInlinedSubroutine:
			inside = w.function(from, ab)
		case ab.sibling && ab.children && skipTypes && isType(ab.tag):
			w.skipTree(ab)
			inside = -2
		case ab.size >= 0:
			w.c.skip(uint64(ab.size))
		default:
			for _, a := range ab.attrs {
				w.u.skipForm(&w.c, a.form)
			}
		}
		if w.c.bad || !w.d.spend(w.c.pos-from) {
			w.d.fail(errTruncated)
			return
		}
		if ab.children && inside != -2 {
			w.stack = append(w.stack, w.open)
			w.open = inside
		}
	}
}

// up ends a list of children and reports whether there is more.
func (w *walker) up() bool {
	if len(w.stack) == 0 {
		return false
	}
	outer := w.stack[len(w.stack)-1]
	w.stack = w.stack[:len(w.stack)-1]
	if w.open != outer && w.open >= 0 {
		w.f.nodes[w.open].end = int32(len(w.f.nodes))
	}
	w.open = outer
	return len(w.stack) > 0
}

// typesHoldNoCode tells whether all methods of a class are defined outside of
// it, as C and C++ compilers do. Rust's nests some.
func (w *walker) typesHoldNoCode() bool {
	switch w.u.language {
	case langC89, langC, langC99, langC11, langC17,
		langCPlusPlus, langCPlusPlus11, langCPlusPlus14, langCPlusPlus17, langCPlusPlus20:
		return true
	}
	return false
}

func isType(tag dwarf.Tag) bool {
	switch tag {
	case dwarf.TagClassType, dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagEnumerationType:
		return true
	}
	return false
}

// skipTree goes to the next sibling of the entry whose attributes follow.
func (w *walker) skipTree(ab *abbrev) {
	var e entry
	e.read(w.u, &w.c, ab)
	next := uint64(w.u.off) + e.sibling.num
	if e.sibling.form == formRefAddr {
		next = e.sibling.num
	}
	if next < uint64(w.c.pos) || next > uint64(w.u.end) {
		w.c.fail()
		return
	}
	w.c.pos = int(next)
}

// function reads a function or inlined call and adds it if it has code. It
// returns the node that its children are in.
func (w *walker) function(from int, ab *abbrev) int32 {
	var e entry
	e.read(w.u, &w.c, ab)
	n := node{
		entry:      from,
		parent:     -1,
		firstRange: int32(len(w.f.ranges)),
		callFile:   uint32(min(e.callFile.num, 1<<32-1)),
		callLine:   uint32(min(e.callLine.num, 1<<31-1)),
	}
	inlined := ab.tag == dwarf.TagInlinedSubroutine
	if inlined {
		if w.open < 0 {
			return w.open
		}
		n.parent = w.open
	}
	index := int32(len(w.f.nodes))
	w.d.eachRange(w.u, &e, func(low, high uint64) {
		if n.numRanges == 0 {
			n.start = low
		}
		if !w.d.grow(rangeBytes) {
			return
		}
		n.numRanges++
		w.f.ranges = append(w.f.ranges, codeRange{low, high, index})
		if !inlined {
			w.f.tops = append(w.f.tops, codeRange{low, high, index})
		}
	})
	if n.numRanges == 0 || !w.d.grow(nodeBytes) {
		w.f.ranges = w.f.ranges[:n.firstRange]
		if inlined {
			return w.open
		}
		return -1
	}
	if low, ok := w.d.address(w.u, e.low); ok && low != 0 {
		n.start = low
	}
	if start, ok := w.d.address(w.u, e.start); ok {
		n.start = start
	}
	n.end = index + 1
	w.f.nodes = append(w.f.nodes, n)
	return index
}

func (f *functions) finish() {
	// A unit that is cut off leaves nodes open; their descendants follow
	// them all the same.
	for _, n := range slices.Backward(f.nodes) {
		if p := n.parent; p >= 0 {
			f.nodes[p].end = max(f.nodes[p].end, n.end)
		}
	}
	slices.SortFunc(f.tops, func(a, b codeRange) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(b.high, a.high), cmp.Compare(a.node, b.node))
	})
}

// find returns the function that holds addr followed by the calls inlined
// there, outermost first, and where the function starts.
func (f *functions) find(addr uint64) (chain []node, start uint64) {
	i := sort.Search(len(f.tops), func(i int) bool { return f.tops[i].low > addr }) - 1
	stop := max(i-maxOverlap, -1)
	for ; i > stop && addr >= f.tops[i].high; i-- {
	}
	if i == stop {
		return nil, 0
	}
	top := f.tops[i].node
	chain = append(chain, f.nodes[top])
	for n, parent, end := top+1, top, f.nodes[top].end; n < end; {
		if f.nodes[n].parent == parent && f.holds(n, addr) {
			chain = append(chain, f.nodes[n])
			parent, end = n, f.nodes[n].end
			n++
			continue
		}
		n = max(f.nodes[n].end, n+1)
	}
	return chain, f.nodes[top].start
}

func (f *functions) holds(n int32, addr uint64) bool {
	first := f.nodes[n].firstRange
	for _, r := range f.ranges[first : first+f.nodes[n].numRanges] {
		if addr >= r.low && addr < r.high {
			return true
		}
	}
	return false
}
