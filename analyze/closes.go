package analyze

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

var closesAnalyzer = Analyzer{
	Name:  "closes",
	Pack:  "tcp",
	Short: "Who closed each connection, application or peer, and why",
	Long: `One answer per connection that was established and has ended.

INITIATOR is who ended it first: the application that owned it, its peer, or the
kernel (a timeout, ss -K, the death of the process). FUNCTION is the application's
own call that closed its side: one of its functions where a pack recorded them
(-e nginx), else the system call. DELAY runs from the entry of the recorded call
to the kernel's change of state, which happens inside the call and in its thread:
so descriptors that are used again do not mislead. IDLE is how long no payload had
gone either way before the end.

REASON is keepalive_timeout or idle_timeout where the application closed after so
long a silence (--idle); docs/analyze.md lists all.`,
	New: func(fs *pflag.FlagSet) Runner {
		o := new(closesOptions)
		o.initiator.of, o.reasons.of = closeInitiators[:], closeReasons[:]
		fs.SortFlags = false
		fs.DurationVar(&o.idle, "idle", 500*time.Millisecond, "an application that closes after this `TIME` without payload ran into a timeout")
		fs.Var(&o.initiator, "initiator", "only those ended by `WHO`: application, peer, kernel, unknown")
		fs.Var(&o.reasons, "reason", "only for these `REASONS`, comma-separated (docs/analyze.md)")
		fs.UintVar(&o.top, "top", 0, "at most `N` connections; 0 is all, in text 20")
		return o
	},
}

type closesOptions struct {
	idle      time.Duration
	initiator choice
	reasons   choices
	top       uint
}

// closeFd is the argument of a probe of [format.RoleClose] that tells the descriptor.
const closeFd = "fd"

// Run makes one pass. Like that of tcp it reads all events whatever the filter
// says, which selects by owner and by life.
func (o *closesOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	t, j := newTCPTracker(), newCloseJoin(r)
	kinds := tcpKinds
	kinds.Add(format.KindCall)
	err := eachEvent(ctx, r, kinds, "TCP events", func(e *format.Event) {
		if e.Kind == format.KindCall {
			j.call(e)
		} else {
			t.event(e)
		}
	})
	if err != nil {
		return nil, err
	}
	capture, complete, err := Describe(r, "tcp")
	if err != nil {
		return nil, err
	}
	view := newTCPView(r, t, capture, complete)
	t.direct(r)
	res := &closesResult{opt: *o, capture: capture, complete: complete}
	res.collect(t, j, view, f)
	return res, nil
}

// closesResult is the answer of "tcap analyze closes".
type closesResult struct {
	opt      closesOptions
	capture  Capture
	complete Completeness
	rows     []closeRow // selected, by the time of the end
	all      int        // before --top
	half     int        // one side has ended, the other has not
	groups   []closeGroup
}

// Completeness is that of the capture.
func (r *closesResult) Completeness() Completeness { return r.complete }

func (r *closesResult) collect(t *tcpTracker, j *closeJoin, view *tcpView, f format.Filter) {
	sel := tcpSelect{opt: &tcpOptions{}, filter: f, view: view}
	var ended []*tcpConn
	t.all(func(c *tcpConn) {
		switch {
		case !c.reported() || c.closeOld == format.TCPSynSent || !sel.keep(c):
		case c.exit == 0 && !c.over(), c.flags.has(tcpFailedCall):
		case view.judge.ending(c).verdict == verdictStillOpen:
			r.half++
		default:
			ended = append(ended, c)
		}
	})
	calls := j.join(ended)
	for _, c := range ended {
		row := newCloseRow(view, c, calls[c], j.functions(calls[c]), r.opt.idle)
		if (r.opt.initiator.is == "" || r.opt.initiator.is == row.Initiator) &&
			(len(r.opt.reasons.are) == 0 || slices.Contains(r.opt.reasons.are, row.Reason)) {
			r.rows = append(r.rows, row)
		}
	}
	slices.SortStableFunc(r.rows, func(a, b closeRow) int { return cmp.Compare(a.EndedNs, b.EndedNs) })
	r.groups = groupCloses(r.rows)
	r.all = len(r.rows)
	if r.opt.top > 0 {
		r.rows = r.rows[:int(min(r.opt.top, uint(r.all)))]
	}
}

// A closeGroup is the closes of one kind by one program.
type closeGroup struct {
	closeKey
	Closes     int    `json:"closes"`
	DelayP50Ns *int64 `json:"app_to_kernel_p50_ns"`
	DelayMaxNs *int64 `json:"app_to_kernel_max_ns"`
	IdleP50Ns  *int64 `json:"idle_p50_ns"`
	IdleMaxNs  *int64 `json:"idle_max_ns"`
}

type closeKey struct {
	Comm      string `json:"comm"`
	Direction string `json:"direction"`
	Port      uint16 `json:"port"` // of the service, there or here
	Initiator string `json:"initiator"`
	Reason    string `json:"reason"`
	Function  string `json:"function"`
}

// groupCloses sums rows up, the most frequent kind first.
func groupCloses(rows []closeRow) []closeGroup {
	type lists struct {
		n           int
		delay, idle []int64
	}
	by := map[closeKey]*lists{}
	for i := range rows {
		w := &rows[i]
		k := closeKey{w.Comm, w.Direction, w.Lport, w.Initiator, w.Reason, deref(w.Function)}
		if w.Direction != tcpDirections[tcpAccept] {
			k.Port = w.Rport
		}
		l := by[k]
		if l == nil {
			l = &lists{}
			by[k] = l
		}
		l.n++
		if w.AppToKernelNs != nil {
			l.delay = append(l.delay, *w.AppToKernelNs)
		}
		if w.IdleNs != nil {
			l.idle = append(l.idle, *w.IdleNs)
		}
	}
	groups := make([]closeGroup, 0, len(by))
	for k, l := range by {
		g := closeGroup{closeKey: k, Closes: l.n}
		g.DelayP50Ns, g.DelayMaxNs = middleAndMax(l.delay)
		g.IdleP50Ns, g.IdleMaxNs = middleAndMax(l.idle)
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b closeGroup) int {
		return cmp.Or(cmp.Compare(b.Closes, a.Closes), cmp.Compare(a.Comm, b.Comm), cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Initiator, b.Initiator), cmp.Compare(a.Reason, b.Reason),
			cmp.Compare(a.Function, b.Function))
	})
	return groups
}

func middleAndMax(ns []int64) (middle, most *int64) {
	if len(ns) == 0 {
		return nil, nil
	}
	slices.Sort(ns)
	return &ns[(len(ns)-1)/2], &ns[len(ns)-1]
}
