package analyze

import (
	"cmp"
	"io"
	"math"
	"slices"

	"github.com/google/pprof/profile"

	"github.com/tcap-dev/tcap/analyze/export"
)

// Heap is the result of the heap analysis, and its JSON form. Times are ns
// since the start of the recording.
type Heap struct {
	Capture      Capture `json:"capture"`
	completeness Completeness
	Complete     *Completeness `json:"completeness"`

	Window        int64       `json:"window_ns"`      // length of what was looked at
	Allocations   Amount      `json:"allocations"`    // all of the window
	Freed         Amount      `json:"freed"`          // of them
	Ended         Amount      `json:"ended"`          // not freed, but gone with the exit or exec of their process
	Live          Amount      `json:"live"`           // at the end
	Temporary     Amount      `json:"temporary"`      // freed at once by their thread
	Rate          Rate        `json:"rate"`           //
	Peak          HeapPeak    `json:"peak"`           //
	UnknownFrees  uint64      `json:"unknown_frees"`  // of blocks from before the capture
	DoubleFrees   uint64      `json:"double_frees"`   //
	InferredFrees uint64      `json:"inferred_frees"` //
	Sizes         []HeapSize  `json:"sizes"`          // histogram, empty classes left out
	Growth        HeapGrowth  `json:"growth"`         //
	Stacks        []HeapStack `json:"stacks"`         // by bytes at the peak

	opt    heapOptions
	stacks []HeapStack // all
}

// Rate is a number of allocations and bytes per second.
type Rate struct {
	Allocations float64 `json:"allocations_per_s"`
	Bytes       float64 `json:"bytes_per_s"`
}

// HeapPeak is the instant at which most bytes were live.
type HeapPeak struct {
	Time int64 `json:"time_ns"`
	Amount
}

// HeapSize is a class of sizes: Min <= size <= Max.
type HeapSize struct {
	Min uint64 `json:"min_bytes"`
	Max uint64 `json:"max_bytes"`
	Amount
}

// HeapGrowth is the live heap over time.
type HeapGrowth struct {
	Slope  float64     `json:"slope_bytes_per_s"` // least squares over the points
	R2     float64     `json:"r2"`                // 1: the points lie on the line
	Points []HeapPoint `json:"points"`
}

// HeapPoint is what was live just before an instant.
type HeapPoint struct {
	Time int64 `json:"time_ns"`
	Amount
}

// HeapStack is the share of a stack.
type HeapStack struct {
	Peak        Amount         `json:"peak"`
	Live        Amount         `json:"live"`
	Allocations Amount         `json:"allocations"`
	Temporary   Amount         `json:"temporary"`
	Stack       []export.Frame `json:"stack"`

	order string
}

// fill makes the result of what the pass and the collector found.
func (h *Heap) fill(p *pass, c *heapCollector, u unknownFrees) {
	h.Complete = &h.completeness
	h.Window = p.end - c.line.buckets.start
	h.Allocations, h.Freed, h.Ended, h.Temporary = amount(p.allocs), amount(c.freed), amount(c.ends), amount(c.temp)
	h.Live = amount(c.line.total.now.count())
	if s := float64(h.Window) / 1e9; s > 0 {
		h.Rate = Rate{float64(h.Allocations.Blocks) / s, float64(h.Allocations.Bytes) / s}
	}
	if peak := c.line.total.peak; peak.blocks > 0 {
		h.Peak = HeapPeak{h.Capture.Since(c.line.peakAt), amount(peak.count())}
	}
	h.UnknownFrees, h.DoubleFrees, h.InferredFrees = u.before, u.twice, p.m.inferred
	h.Sizes = sizeClasses(&c.sizes)
	h.Growth = growth(&c.line.buckets, h.Capture, p.end)
	stacks := newStackTable(p.r)
	for _, row := range p.tally.rows {
		peak, live := c.line.stack(row.stack)
		s := HeapStack{
			Peak: amount(peak), Live: amount(live), Allocations: amount(row.count),
			Temporary: amount(c.temporary.get(row.stack)), Stack: stacks.get(row.stack),
		}
		s.order = export.FoldedName(s.Stack)
		h.stacks = append(h.stacks, s)
	}
	h.sortStacks(func(s *HeapStack) uint64 { return s.Peak.Bytes })
	h.Stacks = append([]HeapStack{}, h.stacks...)
	if h.opt.top > 0 && h.opt.top < len(h.Stacks) {
		h.Stacks = h.Stacks[:h.opt.top]
	}
}

// sortStacks sorts by a weight, and by content where that ties.
func (h *Heap) sortStacks(weight func(*HeapStack) uint64) {
	slices.SortFunc(h.stacks, func(a, b HeapStack) int {
		return cmp.Or(
			cmp.Compare(weight(&b), weight(&a)), cmp.Compare(b.Allocations.Bytes, a.Allocations.Bytes),
			cmp.Compare(b.Allocations.Blocks, a.Allocations.Blocks), cmp.Compare(a.order, b.order),
		)
	})
}

func sizeClasses(sizes *[65]count) []HeapSize {
	out := []HeapSize{}
	for i, c := range sizes {
		if c.blocks == 0 {
			continue
		}
		s := HeapSize{Amount: amount(c)}
		if i > 0 {
			s.Min = 1 << (i - 1)
			s.Max = s.Min - 1 + s.Min
		}
		out = append(out, s)
	}
	return out
}

func growth(b *buckets, c Capture, end int64) HeapGrowth {
	g := HeapGrowth{Points: []HeapPoint{}}
	g.Slope, g.R2 = b.slope()
	for i, l := range b.ends {
		g.Points = append(g.Points, HeapPoint{c.Since(min(b.end(i), end)), amount(l.count())})
	}
	return g
}

// JSON implements Result.
func (h *Heap) JSON() any { return h }

// Completeness implements Result.
func (h *Heap) Completeness() Completeness { return h.completeness }

// samples have the four pprof values first, in use meaning at the peak, then
// what else --cost can ask for.
func (h *Heap) samples() []export.Sample {
	out := make([]export.Sample, len(h.stacks))
	for i, s := range h.stacks {
		out[i] = export.Sample{Stack: s.Stack, Values: []uint64{
			s.Allocations.Blocks, s.Allocations.Bytes, s.Peak.Blocks, s.Peak.Bytes,
			s.Live.Blocks, s.Live.Bytes, s.Temporary.Blocks, s.Temporary.Bytes,
		}}
	}
	return out
}

// Folded implements Folder; --cost says what the weights are.
func (h *Heap) Folded(w io.Writer) error {
	return export.Folded(w, h.samples(), heapCosts[h.opt.cost.is])
}

// PProf implements Profiler. In use is what was live at the peak.
func (h *Heap) PProf() (*profile.Profile, error) {
	list := h.samples()
	for i := range list {
		list[i].Values = list[i].Values[:4]
	}
	return export.PProf(profileOf(h.Capture, h.completeness), list)
}

// CSV implements Result: a record per stack.
func (h *Heap) CSV(w io.Writer) error {
	records := [][]string{{
		"peak_bytes", "peak_blocks", "live_bytes", "live_blocks", "allocated_bytes", "allocations",
		"temporary_bytes", "temporary_blocks", "stack",
	}}
	for i := range h.Stacks {
		s := &h.Stacks[i]
		records = append(records, []string{
			u64(s.Peak.Bytes), u64(s.Peak.Blocks), u64(s.Live.Bytes), u64(s.Live.Blocks),
			u64(s.Allocations.Bytes), u64(s.Allocations.Blocks), u64(s.Temporary.Bytes), u64(s.Temporary.Blocks), s.order,
		})
	}
	return export.CSV(w, records)
}

// perSecond rounds a rate for people.
func perSecond(v float64) uint64 { return uint64(math.Round(math.Abs(v))) }
