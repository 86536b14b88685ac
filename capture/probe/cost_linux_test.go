package probe

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// BenchmarkTargetOverhead measures what a target pays besides hits, by the
// number of trace events: ns per thread created and joined, per fork and wait,
// per change of threads, all on one CPU; and what attaching and closing take.
func BenchmarkTargetOverhead(b *testing.B) {
	kerneltest.Require(b)
	exe := kerneltest.Build(b, "testdata/switches.c")
	entry, _ := hitPoints(b, kerneltest.Build(b, "testdata/family.c"))
	for _, events := range []int{0, 1, 3, 10, 25} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			best := map[string]float64{}
			keep := func(unit string, v float64) {
				if old, ok := best[unit]; !ok || v < old {
					best[unit] = v
				}
			}
			for range b.N {
				measureOverhead(b, exe, entry, events, keep)
			}
			for unit, v := range best {
				b.ReportMetric(v, unit)
			}
		})
	}
}

func measureOverhead(b *testing.B, exe string, entry Point, events int, keep func(unit string, v float64)) {
	c := newCounter(b)
	a := newAttacher(b, openTracefs(b))
	var specs []Spec
	for i := range events { // a cookie each, so an event each
		point := entry
		point.Offset += uint64(i)
		specs = append(specs, Spec{point, c.prog, uint64(i)})
	}
	if list, err := a.AttachAll(specs); err != nil || len(list) != events {
		b.Fatalf("%d of %d attached: %v", len(list), events, err)
	}
	p := start(b, exe)
	var cpu unix.CPUSet
	cpu.Set(0)
	if err := unix.SchedSetaffinity(p.pid, &cpu); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	if err := a.AddTarget(p.pid); err != nil {
		b.Fatal(err)
	}
	keep("us/attach", float64(time.Since(begin).Microseconds()))
	if _, err := p.in.Write([]byte{1}); err != nil {
		b.Fatal(err)
	}
	for p.out.Scan() {
		var what string
		var ns float64
		if _, err := fmt.Sscanf(p.out.Text(), "%s %f", &what, &ns); err != nil {
			b.Fatal(err)
		}
		keep("ns/"+what, ns)
	}
	begin = time.Now()
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	keep("ms/close", float64(time.Since(begin).Milliseconds()))
}
