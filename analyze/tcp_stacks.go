package analyze

import (
	"cmp"
	"io"
	"slices"
	"strconv"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// tcpStackCosts are what the kernel's stacks can weigh.
var tcpStackCosts = []cost{{"events", "Events of connections", export.Column{Head: "EVENTS", Value: 0}, export.Column{}}}

// A tcpMoment is what happened to a connection where the kernel was at a stack.
type tcpMoment struct {
	at, from, to uint8
	stack        format.StackID
}

// tcpStackCounter counts them by connection, since which are reported is known at
// the end.
type tcpStackCounter map[uint64]map[tcpMoment]uint64

func (n tcpStackCounter) put(e *format.Event) {
	conn := n[e.V[format.TCPConn]]
	if conn == nil {
		conn = map[tcpMoment]uint64{}
		n[e.V[format.TCPConn]] = conn
	}
	conn[tcpMoment{
		sat8(e.V[format.TCPStackAt]), sat8(e.V[format.TCPStackOld]), sat8(e.V[format.TCPStackNew]),
		format.StackID(sat32(e.V[format.TCPStackStack])),
	}]++
}

// A TCPStackRow is a stack of the kernel's, and how often something happened to a
// connection there.
type TCPStackRow struct {
	Events   uint64         `json:"events"`
	At       string         `json:"at"` // state, retransmit, reset_sent or reset_received
	OldState string         `json:"old_state"`
	NewState string         `json:"new_state,omitempty"` // of a change of state
	Stack    []export.Frame `json:"stack"`               // innermost first
}

// String says what happened.
func (r *TCPStackRow) String() string {
	switch r.At {
	case "state":
		return r.OldState + " -> " + r.NewState
	case "retransmit":
		return "retransmission in " + r.OldState
	case "reset_sent":
		return "RST sent in " + r.OldState
	case "reset_received":
		return "RST received in " + r.OldState
	}
	return r.At
}

// tcpStacks is the answer of "tcap analyze tcp --stacks".
type tcpStacks struct {
	of   *tcpResult
	rows []TCPStackRow
}

func (r *tcpResult) stacks(counts tcpStackCounter, rd *format.Reader) *tcpStacks {
	sum := map[tcpMoment]uint64{}
	seen := map[uint64]bool{} // a socket may have been several connections
	for _, c := range r.conns {
		if seen[c.id] {
			continue
		}
		seen[c.id] = true
		for m, n := range counts[c.id] {
			sum[m] += n
		}
	}
	s := &tcpStacks{of: r}
	table := newStackTable(rd)
	fields := format.Kinds[format.KindTCPStack].Fields
	for m, n := range sum {
		row := TCPStackRow{Events: n, At: enumName(fields[format.TCPStackAt].Enum, m.at),
			OldState: enumName(fields[format.TCPStackOld].Enum, m.from), Stack: table.get(uint32(m.stack))}
		if m.at == format.StackAtState {
			row.NewState = enumName(fields[format.TCPStackNew].Enum, m.to)
		}
		s.rows = append(s.rows, row)
	}
	slices.SortFunc(s.rows, func(a, b TCPStackRow) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.String(), b.String()),
			cmp.Compare(export.FoldedName(a.Stack), export.FoldedName(b.Stack)))
	})
	return s
}

func enumName(names []string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

// samples have what happened as the innermost frame.
func (s *tcpStacks) samples() []export.Sample {
	list := make([]export.Sample, len(s.rows))
	for i := range s.rows {
		r := &s.rows[i]
		list[i] = export.Sample{Stack: append([]export.Frame{{Function: r.String()}}, r.Stack...), Values: []uint64{r.Events}}
	}
	return list
}

// shown are the rows that --top leaves.
func (s *tcpStacks) shown(unless uint) []TCPStackRow {
	top := s.of.opt.top
	if top == 0 {
		top = unless
	}
	if top == 0 {
		return s.rows
	}
	return s.rows[:min(uint(len(s.rows)), top)]
}

// Text implements Result.
func (s *tcpStacks) Text(w io.Writer, width int) error {
	t := export.NewText(w, width)
	shown := s.shown(textRows)
	switch view := &s.of.opt.trees; {
	case len(s.rows) == 0:
		t.Para("No stacks of the kernel are in the capture: tcap record --kernel-stacks takes them.", "  ")
	case view.tree || view.callers:
		view.draw(t, s.samples())
	default:
		for i := range shown {
			t.Para(counted(shown[i].Events, "time")+": "+shown[i].String(), "  ")
			t.Stack(shown[i].Stack, "    ")
			t.Line("")
		}
		if n := len(s.rows) - len(shown); n > 0 {
			t.Line("... and %s (--top N shows N)", counted(uint64(n), "more row"))
		}
	}
	s.of.complete.text(t)
	return t.Flush()
}

// JSON implements Result.
func (s *tcpStacks) JSON() any {
	return struct {
		Capture      Capture       `json:"capture"`
		Completeness Completeness  `json:"completeness"`
		KernelStacks []TCPStackRow `json:"kernel_stacks"`
	}{s.of.capture, s.of.complete, append([]TCPStackRow{}, s.shown(0)...)}
}

// CSV implements Result.
func (s *tcpStacks) CSV(w io.Writer) error {
	records := [][]string{{"events", "at", "old_state", "new_state", "stack"}}
	for _, r := range s.shown(0) {
		records = append(records, []string{strconv.FormatUint(r.Events, 10), r.At, r.OldState, r.NewState, export.FoldedName(r.Stack)})
	}
	return export.CSV(w, records)
}

// Completeness implements Result.
func (s *tcpStacks) Completeness() Completeness { return s.of.complete }

// Folded implements Folder.
func (s *tcpStacks) Folded(w io.Writer) error {
	return export.Folded(w, s.samples(), s.of.opt.trees.chosen().value())
}
