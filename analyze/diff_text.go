package analyze

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tcap-dev/tcap/analyze/export"
)

// Text implements Result.
func (d *Diff) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	grown, shrunk := d.split()
	d.textRows(t, "grew", grown)
	d.textRows(t, "shrank", shrunk)
	if d.Unchanged > 0 {
		t.Para(fmt.Sprintf("Unchanged: %s in %s of %s.", bytesOf(d.same.Bytes), blocks(d.same.Blocks),
			counted(uint64(d.Unchanged), d.GroupBy)), "  ")
	}
	if a, b := d.before.window, d.after.window; a > b+b/10 || b > a+a/10 {
		t.Para(fmt.Sprintf("The captures are not of the same length: %s before, %s after.", export.Duration(a), export.Duration(b)), "  ")
	}
	t.Para(fmt.Sprintf("Diff summary: %s %s, %s, from %s in %s to %s in %s; %d %s grew, %d shrank.",
		strings.ToLower(d.opt.view.chosen().title), signed(d.Total.GrowthBytes, "byte"), signed(d.Total.GrowthBlocks, "block"),
		bytesOf(d.Total.Before.Bytes), blocks(d.Total.Before.Blocks), bytesOf(d.Total.After.Bytes), blocks(d.Total.After.Blocks),
		d.Grown, plural(d.GroupBy, d.Grown), d.Shrunk), "  ")
	for _, side := range []struct {
		name string
		c    *Completeness
	}{{"Before", &d.before.completeness}, {"After", &d.after.completeness}} {
		for _, n := range side.c.Notes {
			t.Para(side.name+": warning of the recorder: "+export.Escape(n), "  ")
		}
		t.Para(side.name+": "+side.c.Line(), "  ")
	}
	return t.Flush()
}

// split parts the rows that grew from those that shrank, of which the most
// comes first. Code that only calls what changed goes with what it calls.
func (d *Diff) split() (grown, shrunk []DiffRow) {
	bytes := d.opt.view.chosen().column.Bytes
	for _, r := range d.rows {
		g := r.growth(bytes)
		if g == 0 {
			g = r.growth(!bytes)
		}
		if g == 0 {
			g = r.inclusiveGrowth()
		}
		if g > 0 {
			grown = append(grown, r)
		} else {
			shrunk = append(shrunk, r)
		}
	}
	slices.Reverse(shrunk)
	return grown, shrunk
}

func (d *Diff) textRows(t *export.Text, how string, rows []DiffRow) {
	if len(rows) == 0 {
		return
	}
	shown := rows
	if top := topOr(d.opt.top, textRows); top > 0 && top < len(rows) {
		shown = rows[:top]
	}
	if d.opt.view.byCode() != "" {
		d.textTable(t, shown)
	} else {
		for i := range shown {
			r := &shown[i]
			t.Line("%s, %s", signed(r.GrowthBytes, "byte"), signed(r.GrowthBlocks, "block"))
			t.Clauses("  ", "before "+bytesOf(r.Before.Bytes)+" in "+blocks(r.Before.Blocks),
				"after "+bytesOf(r.After.Bytes)+" in "+blocks(r.After.Blocks))
			t.Stack(d.opt.view.frames(r.Stack), "    ")
			t.Line("")
		}
	}
	if n := len(rows) - len(shown); n > 0 {
		t.Line("... and %s that %s (--top 0 shows all)", counted(uint64(n), "more row"), how)
		t.Line("")
	}
}

func (d *Diff) textTable(t *export.Text, rows []DiffRow) {
	tab := export.Table{
		Head:  []string{"GROWTH", "BLOCKS", "BEFORE", "AFTER", "WITH CALLEES", strings.ToUpper(d.GroupBy)},
		Right: []bool{true, true, true, true, true, false},
		Drop:  []int{0, 2, 3, 4, 1, 0},
	}
	for i := range rows {
		r := &rows[i]
		tab.Rows = append(tab.Rows, []string{
			signedBytes(r.GrowthBytes), fmt.Sprintf("%+d", r.GrowthBlocks), export.Bytes(r.Before.Bytes), export.Bytes(r.After.Bytes),
			signedBytes(r.Inclusive.GrowthBytes), export.Escape(r.name),
		})
	}
	t.Table(tab, "")
	t.Line("")
}

// signed writes a change in a unit: "+1,024 bytes", "-1 block", "no block".
func signed(n int64, unit string) string {
	switch {
	case n == 0:
		return "+0 " + unit + "s"
	case n < 0:
		return "-" + counted(uint64(-n), unit)
	}
	return "+" + counted(uint64(n), unit)
}

func signedBytes(n int64) string {
	if n < 0 {
		return "-" + export.Bytes(uint64(-n))
	}
	return "+" + export.Bytes(uint64(n))
}

func plural(unit string, n int) string {
	if n == 1 {
		return unit
	}
	return unit + "s"
}
