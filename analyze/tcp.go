package analyze

import (
	"context"
	"slices"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

var tcpAnalyzer = Analyzer{
	Name:  "tcp",
	Pack:  "tcp",
	Short: "Every TCP connection: who, how long, who closed it and why",
	Long: `One row per connection, failed and still open ones included.

A connection is told by its socket, never by its addresses, so equal addresses
in two network namespaces, or one after the other, are two rows. PID and COMM
are its owner: who called connect, who accepted it, or who held it when the
recording began; never who happened to process a packet. The verdict says how
it ended, and docs/verdicts.md on what evidence.

MS is the life from the connect call (or the arrival of the handshake's end) to
CLOSE; CONN_MS is the part before it was established. A + marks a life that is
longer than the figure: the connection is older than the recording, or still
open. The columns that do not fit the terminal are left out; --wide shows all.`,
	New: func(fs *pflag.FlagSet) Runner {
		o := new(tcpOptions)
		o.register(fs)
		return o
	},
}

// tcpKinds are the events that connections are made of.
var tcpKinds = format.NewKindSet(format.KindTCPEndpoints, format.KindTCPState, format.KindTCPConnect, format.KindTCPAccept,
	format.KindTCPRetransmit, format.KindTCPReset, format.KindTCPDestroy, format.KindTCPSnapshot)

// Run makes one pass over the capture. It reads all TCP events whatever the
// filter says: what happened before a window decides what happened in it.
func (o *tcpOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	t := newTCPTracker()
	kinds, stacks := tcpKinds, tcpStackCounter{}
	if o.trees.tree || o.trees.callers {
		o.stacks = true
	}
	if o.stacks {
		kinds.Add(format.KindTCPStack)
	}
	err := eachEvent(ctx, r, kinds, "TCP events", func(e *format.Event) {
		if e.Kind == format.KindTCPStack {
			stacks.put(e)
			return
		}
		t.event(e)
	})
	if err != nil {
		return nil, err
	}
	res, err := o.result(r, t, f)
	if err != nil {
		return nil, err
	}
	if o.stacks {
		return res.stacks(stacks, r), nil
	}
	return res, nil
}

// result is the answer once all events were seen.
func (o *tcpOptions) result(r *format.Reader, t *tcpTracker, f format.Filter) (*tcpResult, error) {
	capture, complete, err := Describe(r, "tcp")
	if err != nil {
		return nil, err
	}
	res := &tcpResult{opt: *o, capture: capture, complete: complete, view: newTCPView(r, t, capture, complete)}
	res.pick(t, o.owners(f))
	return res, nil
}

// newTCPView is how the connections of a tracker are looked at.
func newTCPView(r *format.Reader, t *tcpTracker, capture Capture, complete Completeness) *tcpView {
	return &tcpView{names: r, start: capture.StartMonoNs, judge: &tcpJudge{
		losses:  tcpLosses(r, capture, complete),
		end:     max(capture.StartMonoNs+capture.DurationNs, t.last),
		reasons: knowsRstReasons(capture.Kernel),
	}}
}

// tcpResult is the answer of "tcap analyze tcp".
type tcpResult struct {
	opt      tcpOptions
	capture  Capture
	complete Completeness
	view     *tcpView
	conns    []*tcpConn // selected, in order
	all      int        // before --top
	wide     bool       // addresses are shown in full
}

// Completeness is that of the capture.
func (r *tcpResult) Completeness() Completeness { return r.complete }

// pick selects and orders what is reported.
func (r *tcpResult) pick(t *tcpTracker, f format.Filter) {
	t.direct(r.view.names)
	sel := tcpSelect{opt: &r.opt, filter: f, view: r.view}
	t.all(func(c *tcpConn) {
		if c.reported() && sel.keep(c) {
			r.conns = append(r.conns, c)
		}
	})
	order := tcpOrders[r.opt.order()]
	slices.SortStableFunc(r.conns, func(a, b *tcpConn) int { return order(r.view, a, b) })
	r.all = len(r.conns)
	if r.opt.top > 0 && !r.opt.summary && !r.opt.stacks {
		r.conns = r.conns[:int(min(r.opt.top, uint(r.all)))]
	}
}
