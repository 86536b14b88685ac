package analyze

import (
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latency collects durations in bounded memory: the first few as they are, so
// that their quantiles are exact; more in a histogram, whose quantiles are at
// most 1 % too large. Count, sum and maximum are exact either way.
type latency struct {
	count uint64
	total uint64 // ns; saturating
	most  int64  // ns
	exact []int64
	hist  *hdrhistogram.Histogram
}

const (
	latencyExact = 1024        // durations kept as they are
	latencyMax   = 1 << 42     // ns, over an hour: what the histogram tells apart
	latencyTop   = maxTime - 1 // a longer one is a mistake of the file
)

func (l *latency) add(ns int64) { l.addCounted(ns, ns) }

// addCounted adds one that counts for the sum what another clock says.
func (l *latency) addCounted(ns, counted int64) {
	ns = min(max(ns, 0), latencyTop)
	l.count++
	l.total = addSat(l.total, uint64(min(max(counted, 0), latencyTop)))
	l.most = max(l.most, ns)
	if l.hist == nil {
		if len(l.exact) < latencyExact {
			l.exact = append(l.exact, ns)
			return
		}
		l.spill()
	}
	l.record(ns)
}

func (l *latency) spill() {
	l.hist = hdrhistogram.New(1, latencyMax, 2)
	for _, ns := range l.exact {
		l.record(ns)
	}
	l.exact = nil
}

// record cannot fail: the value is within the histogram's range.
func (l *latency) record(ns int64) { _ = l.hist.RecordValue(min(max(ns, 1), latencyMax)) }

// quantile returns the duration that a part q of all did not exceed, 0 without
// any.
func (l *latency) quantile(q float64) int64 {
	if l.hist != nil {
		return min(l.hist.ValueAtQuantile(q*100), l.most)
	}
	if len(l.exact) == 0 {
		return 0
	}
	slices.Sort(l.exact)
	i := int(float64(q*float64(len(l.exact)))+0.999999) - 1 // nearest rank
	return l.exact[min(max(i, 0), len(l.exact)-1)]
}

// mean is the average, ns.
func (l *latency) mean() int64 {
	if l.count == 0 {
		return 0
	}
	return int64(l.total / l.count)
}
