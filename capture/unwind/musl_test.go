package unwind

import (
	"slices"
	"testing"
)

// TestMusl unwinds through a C library without call frame information, whose
// code has to be followed. GDB cannot do it: the truth is what the program calls.
func TestMusl(t *testing.T) {
	flags := []string{"-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"}
	for _, c := range []struct {
		name, source string
		static       bool
		want         string
	}{
		{"dynamic", "frames.c", false, "leaf variable aligned recurse compare main"},
		{"static", "frames.c", true, "malloc leaf variable aligned recurse compare trinkle qsort main libc_start_main_stage2"},
		{"signals", "signals.c", true, "malloc leaf second __restore_rt raise first __restore_rt raise interrupted thread start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := flags
			if c.static {
				f = append(slices.Clone(flags), "-static")
			}
			prog := build(t, "musl-gcc", c.source, f...)
			r := recordStops(t, prog, 0, "break leaf", "run", "tbreak malloc", "continue")
			u := New(Options{})
			space := r.space(t, u)
			frames, end := u.Unwind(space, r.Stops[0].snapshot(), nil)
			names := progNames(t, prog, prog, space, frames)
			if end != Complete {
				t.Errorf("ended: %v, after %v", end, names)
			}
			wantNames(t, names, c.want)
			if n := count(names, "recurse"); c.source == "frames.c" && n != 121 {
				t.Errorf("%d frames of recurse, want 121", n)
			}
		})
	}
}
