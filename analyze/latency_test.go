package analyze

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLatency: few quantiles are exact, many at most 1 % off; sums always are.
func TestLatency(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 10, latencyExact, latencyExact + 1, 50000} {
		var l latency
		var all []int64
		total := uint64(0)
		for range n {
			ns := int64(math.Exp(rng.Float64() * 25))
			l.add(ns)
			all = append(all, ns)
			total += uint64(ns)
		}
		slices.Sort(all)
		if l.count != uint64(n) || l.total != total || n > 0 && l.most != all[n-1] {
			t.Errorf("%d: count %d, total %d, most %d", n, l.count, l.total, l.most)
		}
		for _, q := range []float64{0, 0.5, 0.95, 0.99, 0.999, 1} {
			want := int64(0)
			if n > 0 {
				want = all[min(max(int(math.Ceil(q*float64(n)))-1, 0), n-1)]
			}
			got, off := l.quantile(q), 0.0
			if n > latencyExact {
				off = 0.011
			}
			if diff := math.Abs(float64(got - want)); diff > off*float64(want) {
				t.Errorf("%d values, quantile %v: %d, want %d", n, q, got, want)
			}
		}
	}
	var l latency
	for _, ns := range []int64{-5, 0, math.MaxInt64} {
		for range latencyExact {
			l.add(ns)
		}
	}
	if l.count != 3*latencyExact || l.quantile(0.1) > 1 || l.quantile(1) < latencyMax {
		t.Errorf("extremes: %d, %d, %d", l.count, l.quantile(0.1), l.quantile(1))
	}
}
