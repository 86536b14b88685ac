package capture

import (
	"math/bits"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/tcap-dev/tcap/format"
)

// sizeRing decides how large the ring is, unless that was said, and how often it is
// emptied.
//
// A ring that is larger than needed costs: programs write to all of it in turn,
// whether it is full or not. Until it was gone through once, each page is touched
// for the first time, 15 us on a virtual machine whose page tables are shadowed,
// which was more than half of what the programs took for a connection; from then on
// each record is written to memory that has left the caches.
func (r *recorder) sizeRing() {
	usual := r.usualRing()
	size := r.opts.RingSize
	if size <= 0 {
		size = usual
	}
	r.opts.RingSize = pagesOf(size)
	// A smaller ring is emptied more often, in proportion.
	r.poll = max(pollEvery*time.Duration(min(r.opts.RingSize, usual)>>12)/time.Duration(usual>>12), time.Millisecond)
}

// usualRing suits what is recorded, bytes.
func (r *recorder) usualRing() int {
	if r.opts.KernelStacks || slices.Contains(r.opts.packs(), "heap") || !r.onlyCloses() {
		return DefaultRingSize
	}
	return min(pagesOf(ConnectionsRingSize*runtime.NumCPU()), DefaultRingSize)
}

// onlyCloses reports whether every declared probe is known to be hit about once in the life
// of a connection and to send little: it adds not much to what TCP tells of that. What
// others say is the role of a function can be hit at any rate, and send a text each time.
func (r *recorder) onlyCloses() bool {
	return !slices.ContainsFunc(r.opts.Probes, func(p Probe) bool { return !p.BuiltIn || p.Role != format.RoleClose || p.Decl.Stack })
}

// pagesOf rounds up to a power of two of pages, as the kernel wants it.
func pagesOf(size int) int {
	return 1 << bits.Len(uint(max(size, os.Getpagesize())-1))
}
