package analyze

import (
	"bytes"
	"context"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/internal/synth"
	"github.com/tcap-dev/tcap/format"
)

// benchmark runs an analysis over a synthetic capture and reports its speed.
// scripts/bench measures the same on 50 million events, with peak memory.
func benchmark(b *testing.B, a Analyzer, o synth.Options) {
	var buf bytes.Buffer
	truth, err := synth.Write(&buf, o)
	if err != nil {
		b.Fatal(err)
	}
	r, err := format.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for b.Loop() {
		res, err := a.New(pflag.NewFlagSet("", pflag.ContinueOnError)).Run(context.Background(), r, format.Filter{})
		if err != nil {
			b.Fatal(err)
		}
		if l, ok := res.(*Leaks); ok && (l.Total.Bytes != truth.LeakedBytes || l.Total.Blocks != truth.LeakedBlocks) {
			b.Fatalf("leaks %+v, want %+v", l.Total, truth)
		}
	}
	b.ReportMetric(float64(o.Events)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mevents/s")
	b.ReportMetric(float64(buf.Len())/float64(o.Events), "B/event")
}

func BenchmarkLeaks(b *testing.B) {
	b.Run("attached", func(b *testing.B) { benchmark(b, leaksAnalyzer, synth.Options{Events: 4_000_000}) })
	b.Run("small", func(b *testing.B) { benchmark(b, leaksAnalyzer, synth.Options{Events: 4_000_000, Live: 500}) })
	b.Run("large", func(b *testing.B) { benchmark(b, leaksAnalyzer, synth.Options{Events: 4_000_000, Live: 1_000_000}) })
}

func BenchmarkHeap(b *testing.B) {
	benchmark(b, heapAnalyzer, synth.Options{Events: 4_000_000})
}
