package analyze

import (
	"fmt"
	"io"

	"github.com/google/pprof/profile"

	"github.com/tcap-dev/tcap/analyze/export"
)

// Diff is the result of a comparison, and its JSON form. What is about one
// capture only and not said to be about the earlier is about the later.
type Diff struct {
	Capture    Capture       `json:"capture"`
	Complete   *Completeness `json:"completeness"`
	BeforeSide DiffSide      `json:"before"`
	Cost       string        `json:"cost"`
	GroupBy    string        `json:"group_by"`
	Total      DiffAmounts   `json:"total"`
	Grown      int           `json:"grown"` // rows
	Shrunk     int           `json:"shrunk"`
	Unchanged  int           `json:"unchanged"`
	Rows       []DiffRow     `json:"rows"` // those that changed

	opt           *Differ
	before, after diffSide
	rows          []DiffRow // all that changed
	same          Amount    // of the rows that did not
}

// DiffSide says what the earlier capture is.
type DiffSide struct {
	Capture  Capture       `json:"capture"`
	Complete *Completeness `json:"completeness"`
}

// DiffAmounts is what something weighed in both captures.
type DiffAmounts struct {
	Before       Amount `json:"before"`
	After        Amount `json:"after"`
	GrowthBytes  int64  `json:"growth_bytes"`
	GrowthBlocks int64  `json:"growth_blocks"`
}

func (a *DiffAmounts) grow() {
	a.GrowthBytes, a.GrowthBlocks = difference(a.Before.Bytes, a.After.Bytes), difference(a.Before.Blocks, a.After.Blocks)
}

// DiffRow is a stack, or code, in both captures.
type DiffRow struct {
	DiffAmounts
	Code      *export.Frame  `json:"code,omitempty"`      // when grouped by code
	Inclusive *DiffAmounts   `json:"inclusive,omitempty"` // with what the code calls
	Stack     []export.Frame `json:"stack"`               // as in the later capture, if it is there

	name string
}

func (r *DiffRow) grow() {
	r.DiffAmounts.grow()
	if r.Inclusive != nil {
		r.Inclusive.grow()
	}
}

func (r *DiffRow) growth(bytes bool) int64 {
	if bytes {
		return r.GrowthBytes
	}
	return r.GrowthBlocks
}

func (r *DiffRow) inclusiveGrowth() int64 {
	if r.Inclusive == nil {
		return 0
	}
	return r.Inclusive.GrowthBytes
}

func (r *DiffRow) changed() bool {
	return r.GrowthBytes != 0 || r.GrowthBlocks != 0 ||
		r.Inclusive != nil && (r.Inclusive.GrowthBytes != 0 || r.Inclusive.GrowthBlocks != 0)
}

func (d *Diff) fill() {
	d.Capture, d.Complete = d.after.capture, &d.after.completeness
	d.BeforeSide = DiffSide{d.before.capture, &d.before.completeness}
	d.Cost, d.GroupBy = d.opt.view.cost.is, d.opt.view.groupBy.is
	bytes := d.opt.view.chosen().column.Bytes
	for _, row := range d.opt.rows(d.before.samples, d.after.samples) {
		for _, sum := range [][2]*Amount{{&d.Total.Before, &row.Before}, {&d.Total.After, &row.After}} {
			sum[0].Bytes, sum[0].Blocks = addSat(sum[0].Bytes, sum[1].Bytes), addSat(sum[0].Blocks, sum[1].Blocks)
		}
		growth := row.growth(bytes)
		if growth == 0 {
			growth = row.growth(!bytes)
		}
		switch {
		case growth > 0:
			d.Grown++
		case growth < 0:
			d.Shrunk++
		case !row.changed():
			d.Unchanged++
			d.same.Bytes, d.same.Blocks = addSat(d.same.Bytes, row.After.Bytes), addSat(d.same.Blocks, row.After.Blocks)
		}
		if row.changed() {
			d.rows = append(d.rows, row)
		}
	}
	d.Total.grow()
	d.Rows = append([]DiffRow{}, d.rows...)
	if top := d.opt.top; top > 0 && top < len(d.Rows) {
		d.Rows = d.Rows[:top]
	}
}

// JSON implements Result.
func (d *Diff) JSON() any { return d }

// Completeness implements Result: of the capture that lacks something, if one
// does.
func (d *Diff) Completeness() Completeness {
	if !d.before.completeness.Complete() {
		return d.before.completeness
	}
	return d.after.completeness
}

// CSV implements Result.
func (d *Diff) CSV(w io.Writer) error {
	records := [][]string{{
		"growth_bytes", "growth_blocks", "before_bytes", "before_blocks", "after_bytes", "after_blocks", d.GroupBy,
	}}
	for i := range d.Rows {
		r := &d.Rows[i]
		records = append(records, []string{
			i64(r.GrowthBytes), i64(r.GrowthBlocks), u64(r.Before.Bytes), u64(r.Before.Blocks),
			u64(r.After.Bytes), u64(r.After.Blocks), r.name,
		})
	}
	return export.CSV(w, records)
}

// baseLabel is how pprof marks the samples of -diff_base
// (internal/driver/fetch.go): percentages are of them.
const baseLabel = "pprof::base"

// PProf implements Profiler. The profile is what go tool pprof -diff_base makes
// of the two captures' own: the later one's samples and, negative and marked,
// the earlier one's. In use means the cost that was asked for.
func (d *Diff) PProf() (*profile.Profile, error) {
	after, err := export.PProf(profileOf(d.after.capture, d.after.completeness), d.after.samples)
	if err != nil {
		return nil, err
	}
	before, err := export.PProf(profileOf(d.before.capture, d.before.completeness), d.before.samples)
	if err != nil {
		return nil, err
	}
	before.Scale(-1)
	before.SetLabel(baseLabel, []string{"true"})
	both, err := profile.Merge([]*profile.Profile{after, before})
	if err != nil {
		return nil, fmt.Errorf("merge the profiles of both captures: %w", err)
	}
	return both, nil
}
