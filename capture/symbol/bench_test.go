package symbol

import (
	"os"
	"testing"
)

// BenchmarkLibc resolves 10,000 addresses in libc with a new resolver: what
// one recording pays.
func BenchmarkLibc(b *testing.B) {
	if _, err := os.Stat(libc); err != nil {
		b.Skip("not Debian on amd64")
	}
	const n = 10000
	for _, c := range []struct {
		name string
		dirs []string
	}{{"dynsym", []string{}}, {"debug", []string{"/usr/lib/debug"}}} {
		m := open(b, newResolver(b, c.dirs...), libc)
		symbols := m.Symbols()
		offsets := make([]uint64, n)
		for i := range offsets {
			s := symbols[i*len(symbols)/n]
			offsets[i] = offsetOf(b, libc, s.Addr+s.Size/2)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := newResolver(b, c.dirs...)
				m := open(b, r, libc)
				for _, off := range offsets {
					m.Resolve(off, true)
				}
				b.ReportMetric(float64(r.size)/(1<<20), "cache-MiB")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/address")
		})
	}
}
