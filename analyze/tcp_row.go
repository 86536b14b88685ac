package analyze

import (
	"net/netip"
	"strings"

	"github.com/tcap-dev/tcap/format"
)

// tcpRow is a connection as outputs show it; its JSON form is a contract
// (docs/json.md). Instants are ns since the start of the recording.
type tcpRow struct {
	Pid               uint32   `json:"pid"` // 0 when the owner is not known
	Comm              string   `json:"comm"`
	Uid               uint32   `json:"uid"`
	Netns             uint64   `json:"netns"`
	Family            int      `json:"family"` // 4, 6; 0 when not known
	Direction         string   `json:"direction"`
	Laddr             string   `json:"laddr"`
	Lport             uint16   `json:"lport"`
	Raddr             string   `json:"raddr"`
	Rport             uint16   `json:"rport"`
	TxBytes           *uint64  `json:"tx_bytes"`
	RxBytes           *uint64  `json:"rx_bytes"`
	Retransmits       uint32   `json:"retransmits"`
	MinRttUs          uint32   `json:"min_rtt_us"`
	OpenedNs          int64    `json:"opened_ns"`
	EstablishedNs     *int64   `json:"established_ns"`
	ClosedNs          *int64   `json:"closed_ns"`
	ConnectDurationNs *int64   `json:"connect_duration_ns"`
	DurationNs        *int64   `json:"duration_ns"`
	State             string   `json:"state"`
	Close             tcpClose `json:"close"`
	Errno             *string  `json:"errno"`

	// What the contract does not ask for.
	Conn                  uint64  `json:"conn"`
	Tid                   uint32  `json:"tid"`
	Owner                 *string `json:"owner"`
	PreExisting           bool    `json:"pre_existing"`
	Incomplete            bool    `json:"incomplete"`
	SrttUs                uint32  `json:"srtt_us"`
	EstablishedDurationNs *int64  `json:"established_duration_ns"`
	LastState             *string `json:"last_state"`
	ResetSent             bool    `json:"reset_sent"`
	ResetReceived         bool    `json:"reset_received"`
	ResetReason           *string `json:"reset_reason"`
	Note                  *string `json:"note"`

	life  int64 // ns from birth, or from the start of the recording, to the end or to now
	bound bool  // the true life is longer than that
	start int64 // ns since the start of the recording, negative never
}

type tcpClose struct {
	Verdict string  `json:"verdict"`
	By      *string `json:"by"`
	Errno   *string `json:"errno"`
	Pid     *uint32 `json:"pid"`
	Comm    *string `json:"comm"`
}

// tcpNames resolves the table rows that records refer to; a *format.Reader does.
type tcpNames interface {
	String(format.StringID) string
	Task(format.TaskID) format.Task
	Probe(format.ProbeID) (format.Probe, bool)
}

// tcpView turns records into rows.
type tcpView struct {
	names tcpNames
	judge *tcpJudge
	start int64 // of the recording, CLOCK_MONOTONIC ns
}

func (v *tcpView) row(c *tcpConn) tcpRow {
	e := v.judge.ending(c)
	task := v.names.Task(c.owner)
	row := tcpRow{
		Pid: task.Pid, Tid: task.Tid, Comm: task.Comm, Uid: c.uid, Netns: c.netns,
		Direction: tcpDirections[c.direction],
		Laddr:     plainAddr(v.names.String(c.laddr)), Lport: c.lport,
		Raddr: plainAddr(v.names.String(c.raddr)), Rport: c.rport,
		Retransmits: c.sent(), MinRttUs: c.minRtt, SrttUs: c.srtt,
		State:       stateName(c.state),
		Conn:        c.id,
		Owner:       text(tcpOwners[c.ownerFrom]),
		PreExisting: c.flags.has(tcpPre),
		Incomplete:  v.judge.incomplete(c),
		ResetSent:   c.flags.has(tcpResetSent), ResetReceived: c.flags.has(tcpResetSeen),
		Note: text(e.note),
	}
	row.Family = familyOf(c.family, row.Laddr, row.Raddr)
	if c.flags.has(tcpCounted) || !row.Incomplete {
		row.TxBytes, row.RxBytes = &c.tx, &c.rx
	}
	if c.flags.has(tcpDestroyed) && !c.flags.has(tcpClosed) {
		row.State = stateName(format.TCPClose)
	}
	if row.ResetSent && v.judge.reasons {
		row.ResetReason = text(rstReasonName(c.resetReason))
	}
	v.ending(&row, c, e)
	v.times(&row, c)
	return row
}

func (v *tcpView) ending(row *tcpRow, c *tcpConn, e tcpEnding) {
	row.Close = tcpClose{Verdict: e.verdict.String(), By: text(tcpParties[e.by]), Errno: text(errnoName(e.errno))}
	if id := c.closedBy(e); id != 0 {
		t := v.names.Task(id)
		row.Close.Pid, row.Close.Comm = &t.Pid, &t.Comm
	}
	row.Errno = row.Close.Errno
	if c.connErrno != 0 {
		row.Errno = text(errnoName(c.connErrno))
	}
	if c.flags.has(tcpClosed) {
		row.LastState = text(stateName(c.closeOld))
	}
}

// closedBy is the task that ended the connection, or its local side after the
// peer's FIN; none where the peer's RST or the kernel's timer did.
func (c *tcpConn) closedBy(e tcpEnding) format.TaskID {
	switch {
	case e.verdict == verdictKilled:
		return c.ender
	case e.by == byLocal, c.exit == format.TCPCloseWait:
		return c.closer
	}
	return 0
}

func (v *tcpView) times(row *tcpRow, c *tcpConn) {
	opened := c.opened
	if opened == 0 {
		opened = c.first
		row.bound = true
	}
	row.OpenedNs = opened - v.start
	row.start = max(row.OpenedNs, 0)
	if c.established != 0 {
		row.EstablishedNs = v.instant(c.established)
	}
	end := v.judge.lifeEnd(c)
	row.life = max(end-opened, 0)
	if !c.flags.has(tcpClosed | tcpFailedCall) {
		row.bound = true
	} else {
		row.ClosedNs = v.instant(c.closed)
		if c.opened != 0 {
			row.DurationNs = took(c.opened, c.closed)
		}
		if c.established != 0 {
			row.EstablishedDurationNs = took(c.established, c.closed)
		}
	}
	if c.direction != tcpConnect || c.opened == 0 {
		return
	}
	switch {
	case c.established != 0:
		row.ConnectDurationNs = took(c.opened, c.established)
	case c.flags.has(tcpFailedCall), c.flags.has(tcpClosed) && c.closeOld == format.TCPSynSent:
		row.ConnectDurationNs = took(c.opened, c.closed)
	}
}

// instant is a time as ns since the start of the recording.
func (v *tcpView) instant(t int64) *int64 {
	t -= v.start
	return &t
}

// took is a duration; a capture whose clock ran backwards has none below 0.
func took(from, to int64) *int64 {
	d := max(to-from, 0)
	return &d
}

// text is s, or nil for "".
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// stateName names a state as ss and tcpstates do.
func stateName(s uint8) string {
	names := format.Kinds[format.KindTCPState].Fields[format.StateNew].Enum
	if s == 0 || int(s) >= len(names) {
		return "UNKNOWN"
	}
	return names[s]
}

// plainAddr writes an IPv4 address that an IPv6 socket carries as what it is.
func plainAddr(s string) string {
	if !strings.HasPrefix(s, "::ffff:") {
		return s
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().String()
	}
	return s
}

// familyOf is the family of the packets: a v6 socket may speak to a v4 peer.
func familyOf(stored uint8, addrs ...string) int {
	for _, s := range addrs {
		if strings.Contains(s, ":") {
			return 6
		}
		if s != "" {
			return 4
		}
	}
	switch stored {
	case format.FamilyIPv4:
		return 4
	case format.FamilyIPv6:
		return 6
	}
	return 0
}
