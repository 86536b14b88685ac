package analyze

import (
	"fmt"
	"io"
	"strings"

	"github.com/tcap-dev/tcap/analyze/export"
)

// heapTextStacks is how many stacks each list of a text report has unless
// --top says otherwise.
const heapTextStacks = 5

// Text implements Result.
func (h *Heap) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	h.textTotals(t)
	switch view := h.opt.view; {
	case view.tree || view.callers:
		view.draw(t, h.samples())
	case view.byCode() != "":
		view.table(t, h.groups, topOr(h.opt.top, textRows))
	default:
		h.textLists(t)
	}
	h.textSizes(t)
	h.textGrowth(t)
	if h.UnknownFrees > 0 {
		t.Para(fmt.Sprintf("%s: %s.", unknownFreesName(h.completeness), export.Count(h.UnknownFrees)), "  ")
	}
	if h.DoubleFrees > 0 {
		t.Para(fmt.Sprintf("Frees of blocks that had been freed before: %s.", export.Count(h.DoubleFrees)), "  ")
	}
	t.Para(fmt.Sprintf("Heap summary: peak %s in %s at %s, %s allocated in %s, %s live at the end.",
		bytesOf(h.Peak.Bytes), blocks(h.Peak.Blocks), export.Duration(h.Peak.Time),
		blocks(h.Allocations.Blocks), export.Duration(h.Window), bytesOf(h.Live.Bytes)), "  ")
	h.completeness.text(t)
	return t.Flush()
}

// textLists lists the stacks by what most people ask for.
func (h *Heap) textLists(t *export.Text) {
	h.textList(t, "At the peak", func(s *HeapStack) (uint64, string) {
		return s.Peak.Bytes, fmt.Sprintf("%s in %s", bytesOf(s.Peak.Bytes), blocks(s.Peak.Blocks))
	})
	h.textList(t, "Most allocations", func(s *HeapStack) (uint64, string) {
		return s.Allocations.Blocks, fmt.Sprintf("%s, %s", counted(s.Allocations.Blocks, "allocation"), bytesOf(s.Allocations.Bytes))
	})
	h.textList(t, "Most temporary allocations", func(s *HeapStack) (uint64, string) {
		return s.Temporary.Blocks, fmt.Sprintf("%s of %s", export.Count(s.Temporary.Blocks), counted(s.Allocations.Blocks, "allocation"))
	})
}

func (h *Heap) textTotals(t *export.Text) {
	row := func(name string, a Amount, rest string) []string {
		return []string{name, export.Count(a.Bytes), export.Count(a.Blocks), rest}
	}
	perS := ""
	if h.Window > 0 {
		perS = fmt.Sprintf("%s/s, %s per second", export.Bytes(perSecond(h.Rate.Bytes)), rate(h.Rate.Allocations))
	}
	t.Table(export.Table{
		Head:  []string{"", "BYTES", "BLOCKS", ""},
		Right: []bool{false, true, true, false},
		Drop:  []int{0, 0, 1, 0},
		Wrap:  true,
		Rows: [][]string{
			row("allocated", h.Allocations, perS),
			row("freed", h.Freed, ""),
			row("  temporary", h.Temporary, "at once, by the thread that made them"),
			row("ended", h.Ended, "not freed by exit or exec"),
			row("live at the end", h.Live, ""),
			row("peak", h.Peak.Amount, "at "+export.Duration(h.Peak.Time)),
		},
	}, "")
	t.Line("")
}

// textList lists the stacks with the greatest weights.
func (h *Heap) textList(t *export.Text, title string, weigh func(*HeapStack) (uint64, string)) {
	h.sortStacks(func(s *HeapStack) uint64 { w, _ := weigh(s); return w })
	n := topOr(h.opt.top, heapTextStacks)
	shown, more := 0, 0
	for i := range h.stacks {
		s := &h.stacks[i]
		w, text := weigh(s)
		switch {
		case w == 0:
		case n > 0 && shown == n:
			more++
		default:
			if shown == 0 {
				t.Line("%s:", title)
			}
			shown++
			t.Clauses("  ", text)
			t.Stack(h.opt.view.frames(s.Stack), "    ")
		}
	}
	if more > 0 {
		t.Clauses("  ", "... and "+counted(uint64(more), "more stack")+" (--top 0 shows all)")
	}
	if shown > 0 {
		t.Line("")
	}
}

func (h *Heap) textSizes(t *export.Text) {
	if len(h.Sizes) == 0 {
		return
	}
	var rows [][]string
	var counts []uint64
	for _, s := range h.Sizes {
		rows = append(rows, []string{sizeClass(s), export.Count(s.Blocks), export.Count(s.Amount.Bytes)})
		counts = append(counts, s.Blocks)
	}
	t.Bars(export.Table{Head: []string{"SIZE", "ALLOCATIONS", "BYTES"}, Drop: []int{0, 0, 1}, Rows: rows}, counts)
	t.Line("")
}

func sizeClass(s HeapSize) string {
	if s.Min == s.Max {
		return export.Count(s.Min)
	}
	return export.Count(s.Min) + "-" + export.Count(s.Max)
}

// textGrowth draws the live heap over time in one line.
func (h *Heap) textGrowth(t *export.Text) {
	g := &h.Growth
	if len(g.Points) < 2 {
		return
	}
	var most uint64
	for _, p := range g.Points {
		most = max(most, p.Bytes)
	}
	const marks = " ▁▂▃▄▅▆▇█"
	var line strings.Builder
	each := (len(g.Points) + t.Width() - 3) / (t.Width() - 2) // points for a mark
	for i := each - 1; i < len(g.Points); i += each {
		level := 0
		if most > 0 {
			level = int(float64(g.Points[i].Bytes) / float64(most) * 8)
		}
		line.WriteRune([]rune(marks)[level])
	}
	sign := "grows by"
	if g.Slope < 0 {
		sign = "shrinks by"
	}
	t.Line("|%s|", line.String())
	t.Para(fmt.Sprintf("Live, full height %s. The live heap %s %s/s (least squares, r² %.2f).", export.Bytes(most), sign, export.Bytes(perSecond(g.Slope)), g.R2), "  ")
	t.Line("")
}

// rate writes allocations per second, slow ones with a decimal.
func rate(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f allocations", v)
	}
	return export.Count(perSecond(v)) + " allocations"
}
