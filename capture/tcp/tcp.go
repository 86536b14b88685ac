// Package tcp records the life of TCP connections: it attaches the programs
// that tell of them, and turns their records into events.
//
// A connection is its socket's cookie, not its addresses: those are shared by
// connections in other network namespaces, and used again. Because most changes
// of state are caused by packets, which the kernel processes in whatever task
// it happens to interrupt, an event names a task only if that task did it:
// connect(2), accept(2), and the changes that only a system call or an exit can
// cause. docs/tcp.md says how each fact is obtained and what cannot be known.
package tcp

import (
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// A Sink takes events and gives rows of the capture's tables.
type Sink interface {
	// Append writes the event, which the caller uses again afterwards.
	Append(*format.Event) error
	String(string) format.StringID
	// TaskOf returns the row of a task as a record describes it: its process,
	// thread, name and effective user. The task may be one that is not recorded
	// otherwise.
	TaskOf(pid, tid uint32, comm string, uid uint32) format.TaskID
	// KernelStack returns the row of a stack of return addresses in the kernel,
	// innermost first, of which those in BPF and its tracepoint are to be left out.
	KernelStack(addrs []uint64) format.StackID
}

// maxCached bounds the decoder's memory of addresses, and of names.
const maxCached = 1 << 16

// A Decoder turns records into events. The zero value is ready; it belongs to
// one Sink and one goroutine.
type Decoder struct {
	ev    format.Event
	addrs map[netip.Addr]format.StringID
	comms map[[16]int8]string

	// What was asked for last, which is often asked for again.
	comm  [16]int8
	name  string
	known [4]knownAddr
	next  int // of known, to be replaced
}

// A knownAddr is an address as records have it, and its row.
type knownAddr struct {
	raw    [16]uint8
	family uint8 // 0: none
	id     format.StringID
}

// decoders is the only mapping between the kernel's kinds and the file's.
var decoders = [bpf.RawKindCount]struct {
	kind   format.Kind
	decode func(d *Decoder, rec []byte, s Sink) error
}{
	bpf.RawKindTcpEndpoints:  {format.KindTCPEndpoints, (*Decoder).endpoints},
	bpf.RawKindTcpState:      {format.KindTCPState, (*Decoder).state},
	bpf.RawKindTcpConnect:    {format.KindTCPConnect, (*Decoder).connect},
	bpf.RawKindTcpAccept:     {format.KindTCPAccept, (*Decoder).accept},
	bpf.RawKindTcpRetransmit: {format.KindTCPRetransmit, (*Decoder).retransmit},
	bpf.RawKindTcpReset:      {format.KindTCPReset, (*Decoder).reset},
	bpf.RawKindTcpDestroy:    {format.KindTCPDestroy, (*Decoder).destroy},
	bpf.RawKindTcpSnapshot:   {format.KindTCPSnapshot, (*Decoder).snapshot},
	bpf.RawKindTcpStack:      {format.KindTCPStack, (*Decoder).stack},
	// Two events each: of the addresses and this, of this and the socket's end.
	bpf.RawKindTcpOpened: {format.KindTCPState, (*Decoder).opened},
	bpf.RawKindTcpEnded:  {format.KindTCPState, (*Decoder).ended},
}

// Kind returns the kind of event that a record of kind k becomes, or that it tells
// of beside another, and whether it is a record of this package at all.
func Kind(k bpf.RawKind) (format.Kind, bool) {
	if int(k) >= len(decoders) || decoders[k].decode == nil {
		return format.KindInvalid, false
	}
	return decoders[k].kind, true
}

// Decode appends the event, or the two, that rec tells of. It fails if the record is not one
// of this package or too short, and with what the sink returns.
func (d *Decoder) Decode(rec []byte, s Sink) error {
	h, err := view[bpf.RawHdr](rec)
	if err != nil {
		return err
	}
	kind, ok := Kind(bpf.RawKind(h.Kind))
	if !ok {
		return fmt.Errorf("%w: of kind %d, none of TCP", bpf.ErrRecord, h.Kind)
	}
	d.ev = format.Event{Kind: kind, Time: int64(h.Time)}
	if err := decoders[h.Kind].decode(d, rec, s); err != nil {
		return fmt.Errorf("record of kind %s: %w", format.Kinds[kind].Name, err)
	}
	return nil
}

// view reads a record in place: the same machine laid it out, and its size is
// checked.
func view[T any](rec []byte) (*T, error) {
	var t *T
	if len(rec) < int(unsafe.Sizeof(*t)) {
		return nil, fmt.Errorf("%w: of %d bytes, want %d", bpf.ErrRecord, len(rec), unsafe.Sizeof(*t))
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(rec))), nil
}

// task is who a record names: nobody for what a packet or a timer did.
func (d *Decoder) task(h *bpf.RawHdr, w *bpf.RawWho, s Sink) format.TaskID {
	if h.Pid == 0 {
		return 0
	}
	if d.name == "" || d.comm != w.Comm {
		d.comm, d.name = w.Comm, d.nameOf(&w.Comm)
	}
	return s.TaskOf(h.Pid, h.Tid, d.name, w.Uid)
}

func (d *Decoder) nameOf(raw *[16]int8) string {
	name, ok := d.comms[*raw]
	if !ok {
		if d.comms == nil || len(d.comms) >= maxCached {
			d.comms = make(map[[16]int8]string)
		}
		name = commString(raw)
		d.comms[*raw] = name
	}
	return name
}

func commString(c *[16]int8) string {
	b := make([]byte, 0, len(c))
	for _, x := range c {
		if x == 0 {
			break
		}
		b = append(b, byte(x))
	}
	return string(b)
}

// addr is the row of an address of the given family, 4 or 6.
func (d *Decoder) addr(family uint8, raw *[16]uint8, s Sink) (format.StringID, error) {
	for i := range d.known {
		if k := &d.known[i]; k.raw == *raw && k.family == family && family != 0 {
			return k.id, nil
		}
	}
	id, err := d.findAddr(family, raw, s)
	if err == nil {
		d.known[d.next] = knownAddr{*raw, family, id}
		d.next = (d.next + 1) % len(d.known)
	}
	return id, err
}

func (d *Decoder) findAddr(family uint8, raw *[16]uint8, s Sink) (format.StringID, error) {
	var a netip.Addr
	switch family {
	case 4:
		a = netip.AddrFrom4([4]byte(raw[:4]))
	case 6:
		a = netip.AddrFrom16(*raw)
	default:
		return 0, fmt.Errorf("%w: of address family %d", bpf.ErrRecord, family)
	}
	id, ok := d.addrs[a]
	if !ok {
		if d.addrs == nil || len(d.addrs) >= maxCached {
			d.addrs = make(map[netip.Addr]format.StringID)
		}
		id = s.String(a.String())
		d.addrs[a] = id
	}
	return id, nil
}

func familyOf(f uint8) uint64 {
	if f == 6 {
		return format.FamilyIPv6
	}
	return format.FamilyIPv4
}

func (d *Decoder) endpoints(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpEndpoints](rec)
	if err != nil {
		return err
	}
	d.ev.Task = d.task(&r.Hdr, &r.Who, s)
	return d.appendEndpoints(&endpoints{r.Conn, r.Netns, r.Hdr.Aux, r.Family, &r.Laddr, &r.Raddr, r.Lport, r.Rport}, s)
}

// endpoints are what two kinds of records say of addresses.
type endpoints struct {
	conn         uint64
	netns, uid   uint32
	family       uint8
	laddr, raddr *[16]uint8
	lport, rport uint16
}

func (d *Decoder) appendEndpoints(p *endpoints, s Sink) error {
	laddr, err := d.addr(p.family, p.laddr, s)
	if err != nil {
		return err
	}
	raddr, err := d.addr(p.family, p.raddr, s)
	if err != nil {
		return err
	}
	e := &d.ev
	e.V[format.TCPConn] = p.conn
	e.V[format.EndpointsNetns] = uint64(p.netns)
	e.V[format.EndpointsFamily] = familyOf(p.family)
	e.V[format.EndpointsLaddr] = uint64(laddr)
	e.V[format.EndpointsLport] = uint64(p.lport)
	e.V[format.EndpointsRaddr] = uint64(raddr)
	e.V[format.EndpointsRport] = uint64(p.rport)
	e.V[format.EndpointsUid] = uint64(p.uid)
	return s.Append(e)
}

// opened is a change of state with the addresses, which are told first.
func (d *Decoder) opened(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpOpened](rec)
	if err != nil {
		return err
	}
	task := d.task(&r.State.Hdr, &r.State.Who, s)
	d.ev.Kind = format.KindTCPEndpoints
	if r.Birth != 0 {
		d.ev.Task = task
	}
	err = d.appendEndpoints(&endpoints{r.State.Conn, r.Netns, r.Uid, r.Family, &r.Laddr, &r.Raddr, r.Lport, r.Rport}, s)
	if err != nil {
		return err
	}
	d.ev = format.Event{Kind: format.KindTCPState, Time: int64(r.State.Hdr.Time), Task: task}
	return d.appendState(&r.State, s)
}

// ended is the change to CLOSE with the end of the socket, whose counters are the
// same.
func (d *Decoder) ended(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpEnded](rec)
	if err != nil {
		return err
	}
	d.ev.Task = d.task(&r.State.Hdr, &r.State.Who, s)
	if err := d.appendState(&r.State, s); err != nil {
		return err
	}
	d.ev = format.Event{Kind: format.KindTCPDestroy, Time: int64(r.Destroyed)}
	e := &d.ev
	e.V[format.TCPConn] = r.State.Conn
	e.V[format.DestroyTx] = r.State.Tx
	e.V[format.DestroyRx] = r.State.Rx
	e.V[format.DestroyRetransmits] = uint64(r.State.Retransmits)
	e.V[format.DestroyMinRtt] = uint64(r.State.MinRtt)
	e.V[format.DestroyDisconnected] = uint64(r.Disconnected)
	e.V[format.DestroyIdle] = r.Idle
	return s.Append(e)
}

func (d *Decoder) state(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpState](rec)
	if err != nil {
		return err
	}
	d.ev.Task = d.task(&r.Hdr, &r.Who, s)
	return d.appendState(r, s)
}

func (d *Decoder) appendState(r *bpf.RawTcpState, s Sink) error {
	e := &d.ev
	e.V[format.TCPConn] = r.Conn
	e.V[format.StateOld] = uint64(r.Hdr.Aux & 0xff)
	e.V[format.StateNew] = uint64(r.Hdr.Aux >> 8 & 0xff)
	e.V[format.StateShutdown] = uint64(r.Hdr.Aux >> 16 & 0xff)
	e.V[format.StateProcess] = uint64(r.Hdr.Aux >> 24) // ProcessNo to ProcessConnect, as the record has them
	e.V[format.StateErr] = uint64(r.Err)
	e.V[format.StateTx] = r.Tx
	e.V[format.StateRx] = r.Rx
	e.V[format.StateRetransmits] = uint64(r.Retransmits)
	e.V[format.StateSrtt] = uint64(r.Srtt)
	e.V[format.StateMinRtt] = uint64(r.MinRtt)
	e.V[format.StateSinceCall] = uint64(r.SinceCall)
	return s.Append(e)
}

func (d *Decoder) connect(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpConnect](rec)
	if err != nil {
		return err
	}
	raddr, err := d.addr(r.Family, &r.Raddr, s)
	if err != nil {
		return err
	}
	e := &d.ev
	e.Task = d.task(&r.Hdr, &r.Who, s)
	e.V[format.TCPConn] = r.Conn
	e.V[format.ConnectFd] = uint64(int64(r.Fd))
	e.V[format.ConnectErrno] = uint64(r.Hdr.Aux)
	e.V[format.ConnectDuration] = r.Duration
	e.V[format.ConnectUid] = uint64(r.Who.Uid)
	e.V[format.ConnectRaddr] = uint64(raddr)
	e.V[format.ConnectRport] = uint64(r.Rport)
	e.V[format.ConnectFamily] = familyOf(r.Family)
	e.V[format.ConnectNetns] = uint64(r.Netns)
	return s.Append(e)
}

func (d *Decoder) accept(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpAccept](rec)
	if err != nil {
		return err
	}
	e := &d.ev
	e.Task = d.task(&r.Hdr, &r.Who, s)
	e.V[format.TCPConn] = r.Conn
	e.V[format.AcceptFd] = uint64(r.Hdr.Aux)
	e.V[format.AcceptUid] = uint64(r.Who.Uid)
	return s.Append(e)
}

func (d *Decoder) retransmit(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpRetransmit](rec)
	if err != nil {
		return err
	}
	e := &d.ev
	e.V[format.TCPConn] = r.Conn
	e.V[format.RetransmitState] = uint64(r.Hdr.Aux)
	return s.Append(e)
}

func (d *Decoder) reset(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpReset](rec)
	if err != nil {
		return err
	}
	e := &d.ev
	e.V[format.TCPConn] = r.Conn
	e.V[format.ResetDirection] = uint64(r.Hdr.Aux & 0xff) // ResetSent and ResetReceived, as the record has them
	e.V[format.ResetState] = uint64(r.Hdr.Aux >> 8 & 0xff)
	e.V[format.ResetReason] = uint64(r.Hdr.Aux >> 16)
	return s.Append(e)
}

func (d *Decoder) destroy(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpDestroy](rec)
	if err != nil {
		return err
	}
	e := &d.ev
	e.V[format.TCPConn] = r.Conn
	e.V[format.DestroyTx] = r.Tx
	e.V[format.DestroyRx] = r.Rx
	e.V[format.DestroyRetransmits] = uint64(r.Hdr.Aux)
	e.V[format.DestroyMinRtt] = uint64(r.MinRtt)
	e.V[format.DestroyDisconnected] = uint64(r.Disconnected) // DisconnectUnknown to DisconnectYes, as the record has them
	e.V[format.DestroyIdle] = r.Idle
	return s.Append(e)
}

func (d *Decoder) snapshot(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpSnapshot](rec)
	if err != nil {
		return err
	}
	e := &d.ev
	e.Task = d.task(&r.Hdr, &r.Who, s)
	e.V[format.TCPConn] = r.Conn
	e.V[format.SnapshotWhen] = uint64(r.Hdr.Aux & 0xff) // SnapshotStart and SnapshotEnd, as the record has them
	e.V[format.SnapshotState] = uint64(r.Hdr.Aux >> 8 & 0xff)
	e.V[format.SnapshotFd] = uint64(int64(r.Fd))
	e.V[format.SnapshotUid] = uint64(r.Who.Uid)
	e.V[format.SnapshotTx] = r.Tx
	e.V[format.SnapshotRx] = r.Rx
	e.V[format.SnapshotRetransmits] = uint64(r.Retransmits)
	e.V[format.SnapshotSrtt] = uint64(r.Srtt)
	e.V[format.SnapshotMinRtt] = uint64(r.MinRtt)
	return s.Append(e)
}
