package analyze

import (
	"cmp"
	"math/bits"
	"slices"
)

// A timeline is the live heap over time. Births and deaths come in file order,
// which differs from that of their times where threads run on several CPUs;
// they are held back until nothing earlier can follow, and applied in the order
// of their times. What the result says then does not depend on the order in
// which the recorder happened to see them.
type timeline struct {
	pending []delta
	enough  int // pending ones that are worth sorting
	total   levels
	stacks  []stackLevel // by rows of index
	index   tally        // stack -> row; its counts are not used
	peakGen uint32
	peakAt  int64
	buckets buckets
}

// A delta is a block that is born or dies.
type delta struct {
	time  int64
	size  uint64
	stack uint32
	death bool
}

// A level is a number of blocks and their bytes, in 128 bits: the sizes are a
// stranger's and must not wrap around.
type level struct {
	blocks uint64
	hi, lo uint64
}

func (l *level) apply(d *delta) {
	var c uint64
	if d.death {
		l.blocks--
		l.lo, c = bits.Sub64(l.lo, d.size, 0)
		l.hi -= c
		return
	}
	l.blocks++
	l.lo, c = bits.Add64(l.lo, d.size, 0)
	l.hi += c
}

func (l level) over(m level) bool { return l.hi > m.hi || l.hi == m.hi && l.lo > m.lo }

// count returns the level with its bytes cut to 64 bits.
func (l level) count() count {
	if l.hi != 0 {
		return count{l.blocks, ^uint64(0)}
	}
	return count{l.blocks, l.lo}
}

type levels struct{ now, peak level }

// A stackLevel is a stack's share. The share at the peak is copied only when
// the stack changes for the first time after a peak (gen is the peak's number).
type stackLevel struct {
	levels
	gen uint32
}

// add takes a birth or a death.
func (t *timeline) add(d delta) { t.pending = append(t.pending, d) }

// minPending is how many deltas are gathered at least before they are sorted.
const minPending = 1 << 16

// maxPending bounds the deltas that are held back, to 384 MiB: more than ten
// million events in the second that they are held back for are not recorded by
// anything that is traced. Beyond it they are applied as they are.
const maxPending = 16 << 20

// settle applies what happened before a time.
func (t *timeline) settle(before int64) {
	if len(t.pending) > maxPending {
		before = maxTime
	}
	if len(t.pending) < t.enough && before != maxTime {
		return
	}
	slices.SortFunc(t.pending, func(a, b delta) int { return cmp.Compare(a.time, b.time) })
	n := len(t.pending)
	if before != maxTime {
		n, _ = slices.BinarySearchFunc(t.pending, before, func(d delta, at int64) int { return cmp.Compare(d.time, at) })
	}
	for i := 0; i < n; {
		at := t.pending[i].time
		t.buckets.advance(at, t.total.now)
		for ; i < n && t.pending[i].time == at; i++ {
			t.apply(&t.pending[i])
		}
		if t.total.now.over(t.total.peak) {
			t.total.peak, t.peakAt = t.total.now, at
			t.peakGen++
		}
	}
	t.pending = t.pending[:copy(t.pending, t.pending[n:])]
	t.enough = max(minPending, 2*len(t.pending))
}

func (t *timeline) apply(d *delta) {
	t.total.now.apply(d)
	i := t.index.place(d.stack)
	if i == len(t.stacks) {
		t.stacks = append(t.stacks, stackLevel{})
	}
	s := &t.stacks[i]
	if s.gen != t.peakGen {
		s.peak, s.gen = s.now, t.peakGen
	}
	s.now.apply(d)
}

// finish applies what is left, up to the end of the window.
func (t *timeline) finish(end int64) {
	t.settle(maxTime)
	t.buckets.finish(end, t.total.now)
}

// stack returns a stack's share at the peak and at the end.
func (t *timeline) stack(stack uint32) (peak, now count) {
	i, ok := t.index.find(stack)
	if !ok {
		return
	}
	s := &t.stacks[i]
	if s.gen != t.peakGen { // unchanged since the peak
		return s.now.count(), s.now.count()
	}
	return s.peak.count(), s.now.count()
}

// growthBuckets is how many equal stretches of time the growth is told in.
const growthBuckets = 60

// buckets sample the live heap at the ends of equal stretches of time.
type buckets struct {
	start, width int64
	ends         []level
}

// newBuckets divides [start, end] evenly.
func newBuckets(start, end int64) buckets {
	if end <= start || end-start < 0 {
		return buckets{start: start, width: 1}
	}
	return buckets{start: start, width: max((end-start+growthBuckets-1)/growthBuckets, 1)}
}

// advance is told of the level that held until a time.
func (b *buckets) advance(at int64, now level) {
	for len(b.ends) < growthBuckets && b.end(len(b.ends)) <= at {
		b.ends = append(b.ends, now)
	}
}

// end is the end of bucket i, which does not belong to it.
func (b *buckets) end(i int) int64 { return b.start + int64(i+1)*b.width }

func (b *buckets) finish(end int64, now level) {
	b.advance(end, now)
	if len(b.ends) < growthBuckets {
		b.ends = append(b.ends, now)
	}
}

// slope fits a line through the levels by least squares, and returns its
// growth in bytes/s and r², the share of the levels' variance that it explains. Its
// products are converted before they are added, which keeps compilers from fusing the
// two (Go specification, "Floating-point operators"): a report is the same on arm64.
func (b *buckets) slope() (bytesPerSecond, r2 float64) {
	n := float64(len(b.ends))
	if n < 2 {
		return 0, 0
	}
	var sx, sy, sxx, sxy, syy float64
	for i, l := range b.ends {
		x := float64(i) * float64(b.width) / 1e9
		y := float64(float64(l.hi)*(1<<64)) + float64(l.lo)
		sx, sy, sxx, sxy, syy = sx+x, sy+y, sxx+float64(x*x), sxy+float64(x*y), syy+float64(y*y)
	}
	dx, dy := float64(n*sxx)-float64(sx*sx), float64(n*syy)-float64(sy*sy)
	if dx <= 0 || dy <= 0 {
		return 0, 0
	}
	dxy := float64(n*sxy) - float64(sx*sy)
	return dxy / dx, dxy * dxy / (dx * dy)
}
