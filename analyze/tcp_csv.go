package analyze

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
)

var tcpCSVHeader = []string{
	"pid", "comm", "uid", "netns", "family", "direction", "laddr", "lport", "raddr", "rport", "tx_bytes", "rx_bytes",
	"retransmits", "min_rtt_us", "opened_ns", "established_ns", "closed_ns", "connect_duration_ns", "duration_ns",
	"state", "verdict", "closed_by", "close_errno", "close_pid", "close_comm", "errno",
	"conn", "tid", "owner", "pre_existing", "incomplete", "srtt_us", "established_duration_ns", "last_state",
	"reset_sent", "reset_received", "reset_reason", "note",
}

// CSV writes a record per connection, with the fields of the JSON form in its
// order; what is null there is empty here.
func (r *tcpResult) CSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	if r.opt.summary {
		r.summarize().csv(cw)
	} else {
		cw.Write(tcpCSVHeader)
		for _, c := range r.conns {
			row := r.view.row(c)
			cw.Write(row.record())
		}
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

func (w *tcpRow) record() []string {
	return []string{
		decimal(w.Pid), cellText(w.Comm), decimal(w.Uid), decimal(w.Netns), strconv.Itoa(w.Family), w.Direction,
		cellText(w.Laddr), decimal(w.Lport), cellText(w.Raddr), decimal(w.Rport), optional(w.TxBytes), optional(w.RxBytes),
		decimal(w.Retransmits), decimal(w.MinRttUs), strconv.FormatInt(w.OpenedNs, 10), optional(w.EstablishedNs),
		optional(w.ClosedNs), optional(w.ConnectDurationNs), optional(w.DurationNs),
		w.State, w.Close.Verdict, deref(w.Close.By), deref(w.Close.Errno), optional(w.Close.Pid), cellText(deref(w.Close.Comm)),
		deref(w.Errno),
		decimal(w.Conn), decimal(w.Tid), deref(w.Owner), strconv.FormatBool(w.PreExisting), strconv.FormatBool(w.Incomplete),
		decimal(w.SrttUs), optional(w.EstablishedDurationNs), deref(w.LastState),
		strconv.FormatBool(w.ResetSent), strconv.FormatBool(w.ResetReceived), deref(w.ResetReason), deref(w.Note),
	}
}

func decimal[T uint16 | uint32 | uint64](v T) string { return strconv.FormatUint(uint64(v), 10) }

func optional[T uint32 | uint64 | int64](v *T) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(*v)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// cellText keeps a spreadsheet from running a process name as a formula.
func cellText(s string) string {
	s = printable(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}

// tcplife writes what "tcplife -s" would, had it known the owners: its columns,
// names and units, sessions in the order of their end, lives from ESTABLISHED,
// and of a connect that failed from the call. It shows no open connections.
func (r *tcpResult) tcplife(w io.Writer) {
	var head []string
	if r.opt.clock {
		head = append(head, "TIME")
	}
	if r.opt.seconds {
		head = append(head, "TIME(s)")
	}
	cw := csv.NewWriter(w)
	cw.Write(append(head, "PID", "COMM", "IP", "LADDR", "LPORT", "RADDR", "RPORT", "TX_KB", "RX_KB", "MS"))
	for _, c := range r.conns {
		row := r.view.row(c)
		if row.ClosedNs == nil {
			continue
		}
		row.start = max(*row.ClosedNs, 0)
		var rec []string
		if r.opt.clock {
			rec = append(rec, r.clockTime(&row))
		}
		if r.opt.seconds {
			rec = append(rec, seconds(row.start))
		}
		life := row.life
		if row.EstablishedDurationNs != nil {
			life = *row.EstablishedDurationNs
		}
		cw.Write(append(rec, decimal(row.Pid), cellText(row.Comm), strconv.Itoa(row.Family), cellText(row.Laddr), decimal(row.Lport),
			cellText(row.Raddr), decimal(row.Rport), decimal(c.tx/1024), decimal(c.rx/1024),
			strconv.FormatFloat(float64(life)/1e6, 'f', 2, 64)))
	}
	cw.Flush()
}
