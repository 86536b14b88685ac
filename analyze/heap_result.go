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

	Window        int64       `json:"window_ns"`        // length of what was looked at
	Allocations   Amount      `json:"allocations"`      // all of the window
	Freed         Amount      `json:"freed"`            // of them
	Ended         Amount      `json:"ended"`            // not freed, but gone with the exit or exec of their process
	Live          Amount      `json:"live"`             // at the end
	Temporary     Amount      `json:"temporary"`        // freed at once by their thread
	Rate          Rate        `json:"rate"`             //
	Peak          HeapPeak    `json:"peak"`             //
	UnknownFrees  uint64      `json:"unknown_frees"`    // of blocks from before the capture
	DoubleFrees   uint64      `json:"double_frees"`     //
	InferredFrees uint64      `json:"inferred_frees"`   //
	Sizes         []HeapSize  `json:"sizes"`            // histogram, empty classes left out
	Growth        HeapGrowth  `json:"growth"`           //
	GroupBy       string      `json:"group_by"`         //
	Stacks        []HeapStack `json:"stacks"`           // by bytes at the peak; empty unless grouped by stack
	Groups        []HeapGroup `json:"groups,omitempty"` // by --cost, when grouped by code

	opt    heapOptions
	stacks []HeapStack     // all
	groups []*export.Group // all
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

// HeapAmounts is the share of a stack, or of code.
type HeapAmounts struct {
	Peak        Amount `json:"peak"`
	Live        Amount `json:"live"`
	Leaked      Amount `json:"leaked"` // live, or still there when its process exited
	Allocations Amount `json:"allocations"`
	Temporary   Amount `json:"temporary"`
}

// HeapStack is the share of a stack.
type HeapStack struct {
	HeapAmounts
	Stack []export.Frame `json:"stack"`

	order string
}

// HeapGroup is the share of a function, module, file or line.
type HeapGroup struct {
	HeapAmounts
	Inclusive HeapAmounts  `json:"inclusive"` // with what the code calls
	Code      export.Frame `json:"code"`
}

// values are in the order that heapCosts go by, those of pprof first.
func (a *HeapAmounts) values() []uint64 {
	return []uint64{
		a.Allocations.Blocks, a.Allocations.Bytes, a.Peak.Blocks, a.Peak.Bytes,
		a.Live.Blocks, a.Live.Bytes, a.Temporary.Blocks, a.Temporary.Bytes, a.Leaked.Blocks, a.Leaked.Bytes,
	}
}

func heapAmounts(v []uint64) HeapAmounts {
	at := func(i int) Amount { return Amount{Blocks: v[i], Bytes: v[i+1]} }
	return HeapAmounts{Allocations: at(0), Peak: at(2), Live: at(4), Temporary: at(6), Leaked: at(8)}
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
		left := live
		left.merge(c.exited.get(row.stack))
		s := HeapStack{Stack: stacks.get(row.stack), HeapAmounts: HeapAmounts{
			Peak: amount(peak), Live: amount(live), Leaked: amount(left), Allocations: amount(row.count),
			Temporary: amount(c.temporary.get(row.stack)),
		}}
		s.order = export.FoldedName(s.Stack)
		h.stacks = append(h.stacks, s)
	}
	h.sortStacks(func(s *HeapStack) uint64 { return s.Peak.Bytes })
	h.GroupBy, h.Stacks = h.opt.view.groupBy.is, []HeapStack{}
	if h.opt.view.byCode() == "" {
		h.Stacks = append(h.Stacks, h.stacks...)
	} else {
		h.groups = h.opt.view.groups(h.samples())
		for _, g := range h.groups {
			h.Groups = append(h.Groups, HeapGroup{heapAmounts(g.Self), heapAmounts(g.Total), g.Frame})
		}
	}
	if top := h.opt.top; top > 0 {
		h.Stacks = h.Stacks[:min(top, len(h.Stacks))]
		h.Groups = h.Groups[:min(top, len(h.Groups))]
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
	for i := range h.stacks {
		out[i] = export.Sample{Stack: h.stacks[i].Stack, Values: h.stacks[i].values()}
	}
	return out
}

// Folded implements Folder; --cost says what the weights are.
func (h *Heap) Folded(w io.Writer) error {
	return export.Folded(w, h.opt.view.samples(h.samples()), h.opt.view.chosen().value())
}

// PProf implements Profiler. In use is what was live at the peak.
func (h *Heap) PProf() (*profile.Profile, error) {
	list := h.samples()
	for i := range list {
		list[i].Values = list[i].Values[:4]
	}
	return export.PProf(profileOf(h.Capture, h.completeness), list)
}

// CSV implements Result: a record per stack, or group.
func (h *Heap) CSV(w io.Writer) error {
	head := []string{
		"peak_bytes", "peak_blocks", "live_bytes", "live_blocks", "allocated_bytes", "allocations",
		"temporary_bytes", "temporary_blocks", h.GroupBy, "leaked_bytes", "leaked_blocks",
	}
	record := func(a *HeapAmounts, name string) []string {
		return []string{
			u64(a.Peak.Bytes), u64(a.Peak.Blocks), u64(a.Live.Bytes), u64(a.Live.Blocks), u64(a.Allocations.Bytes), u64(a.Allocations.Blocks),
			u64(a.Temporary.Bytes), u64(a.Temporary.Blocks), name, u64(a.Leaked.Bytes), u64(a.Leaked.Blocks),
		}
	}
	records := [][]string{head}
	for i := range h.Stacks {
		records = append(records, record(&h.Stacks[i].HeapAmounts, h.Stacks[i].order))
	}
	for i := range h.Groups {
		g := &h.Groups[i]
		records = append(records, record(&g.HeapAmounts, h.opt.view.byCode().Name(&g.Code)))
	}
	return export.CSV(w, records)
}

// perSecond rounds a rate for people.
func perSecond(v float64) uint64 { return uint64(math.Round(math.Abs(v))) }
