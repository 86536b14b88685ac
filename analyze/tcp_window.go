package analyze

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/tcap-dev/tcap/format"
)

// windows are stretches of time in which events were lost: sorted, disjoint.
type windows []window

type window struct{ from, to int64 } // ns, both ends within

// newWindows sorts and merges.
func newWindows(ws []window) windows {
	slices.SortFunc(ws, func(a, b window) int { return cmp.Compare(a.from, b.from) })
	var out windows
	for _, w := range ws {
		if n := len(out); n > 0 && w.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, w.to)
			continue
		}
		out = append(out, w)
	}
	return out
}

// overlap says whether any of the windows touches the time from..to.
func (ws windows) overlap(from, to int64) bool {
	i := sort.Search(len(ws), func(i int) bool { return ws[i].to >= from })
	return i < len(ws) && ws[i].from <= to
}

// tcpLosses collects when events about connections were lost: by the recorder,
// or with damaged blocks of the file.
func tcpLosses(r *format.Reader, c Capture, q Completeness) windows {
	var ws []window
	for _, w := range q.LossWindows {
		if w.Kind == unknownKind || strings.HasPrefix(w.Kind, "tcp.") {
			ws = append(ws, window{w.FromNs + c.StartMonoNs, w.ToNs + c.StartMonoNs})
		}
	}
	for _, d := range r.Damage() {
		to := d.To
		if to == 0 { // nothing readable after it
			to = math.MaxInt64
		}
		ws = append(ws, window{d.From, to})
	}
	return newWindows(ws)
}
