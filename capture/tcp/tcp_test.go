package tcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// bytesOf is the record as the kernel would write it.
func bytesOf[T any](r *T) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r)))
}

func who(comm string, uid uint32) bpf.RawWho {
	w := bpf.RawWho{Uid: uid}
	for i, c := range []byte(comm) {
		w.Comm[i] = int8(c)
	}
	return w
}

func hdr(kind bpf.RawKind, pid, tid, aux uint32) bpf.RawHdr {
	return bpf.RawHdr{Time: 77, Pid: pid, Tid: tid, Kind: uint8(kind), Aux: aux}
}

// samples has a record of each kind.
func samples() map[format.Kind][]byte {
	v4 := [16]uint8{192, 0, 2, 1}
	v6 := [16]uint8{0x20, 1, 0xd, 0xb8, 15: 9}
	return map[format.Kind][]byte{
		format.KindTCPEndpoints: bytesOf(&bpf.RawTcpEndpoints{Hdr: hdr(bpf.RawKindTcpEndpoints, 5, 6, 1000),
			Who: who("srv", 33), Netns: 4, Conn: 9, Laddr: v6, Raddr: v6, Lport: 80, Rport: 4000, Family: 6}),
		format.KindTCPState: bytesOf(&bpf.RawTcpState{Hdr: hdr(bpf.RawKindTcpState, 5, 6, 1|7<<8|3<<16|1<<24),
			Who: who("srv", 33), Err: 103, Conn: 9, Tx: 10, Rx: 11, Retransmits: 12, Srtt: 13, MinRtt: 14, SinceCall: 16}),
		format.KindTCPConnect: bytesOf(&bpf.RawTcpConnect{Hdr: hdr(bpf.RawKindTcpConnect, 5, 6, 111),
			Who: who("cli", 33), Fd: 3, Conn: 9, Duration: 100, Raddr: v4, Netns: 4, Rport: 80, Family: 4}),
		format.KindTCPAccept: bytesOf(&bpf.RawTcpAccept{Hdr: hdr(bpf.RawKindTcpAccept, 5, 6, 8),
			Who: who("srv", 33), Conn: 9}),
		format.KindTCPRetransmit: bytesOf(&bpf.RawTcpRetransmit{Hdr: hdr(bpf.RawKindTcpRetransmit, 0, 0, 2), Conn: 9}),
		format.KindTCPReset:      bytesOf(&bpf.RawTcpReset{Hdr: hdr(bpf.RawKindTcpReset, 0, 0, 1|8<<8|14<<16), Conn: 9}),
		format.KindTCPDestroy: bytesOf(&bpf.RawTcpDestroy{Hdr: hdr(bpf.RawKindTcpDestroy, 0, 0, 3),
			Conn: 9, Tx: 1, Rx: 2, MinRtt: 4, Disconnected: 2, Idle: 17}),
		format.KindTCPSnapshot: bytesOf(&bpf.RawTcpSnapshot{Hdr: hdr(bpf.RawKindTcpSnapshot, 5, 6, 1|8<<8),
			Who: who("srv", 33), Fd: 8, Conn: 9, Tx: 1, Rx: 2, Retransmits: 3, Srtt: 4, MinRtt: 5}),
	}
}

func TestDecode(t *testing.T) {
	want := map[format.Kind][]uint64{ // strings are rows: see below
		format.KindTCPEndpoints:  {9, 4, format.FamilyIPv6, 1, 80, 1, 4000, 1000},
		format.KindTCPState:      {9, 1, 7, 103, 3, 10, 11, 12, 13, 14, 1, 16},
		format.KindTCPConnect:    {9, 3, 111, 100, 33, 1, 80, format.FamilyIPv4, 4},
		format.KindTCPAccept:     {9, 8, 33},
		format.KindTCPRetransmit: {9, 2},
		format.KindTCPReset:      {9, format.ResetReceived, 14, 8},
		format.KindTCPDestroy:    {9, 1, 2, 3, 4, format.DisconnectYes, 17},
		format.KindTCPSnapshot:   {9, format.SnapshotEnd, 8, 8, 33, 1, 2, 3, 4, 5},
	}
	named := map[format.Kind]task{
		format.KindTCPEndpoints: {5, 6, "srv", 33}, format.KindTCPState: {5, 6, "srv", 33},
		format.KindTCPConnect: {5, 6, "cli", 33}, format.KindTCPAccept: {5, 6, "srv", 33},
		format.KindTCPSnapshot: {5, 6, "srv", 33},
	}
	for kind, rec := range samples() {
		var d Decoder
		m := newMemory()
		if err := d.Decode(rec, m); err != nil {
			t.Fatal(err)
		}
		if len(rec) > 100 {
			t.Errorf("%s: the record has %d bytes, over 100", format.Kinds[kind].Name, len(rec))
		}
		e := m.events[0]
		if e.Kind != kind || e.Time != 77 {
			t.Errorf("kind %d, time %d; want %d, 77", e.Kind, e.Time, kind)
		}
		if got := m.tasks[e.Task]; got != named[kind] {
			t.Errorf("%s: task %+v, want %+v", format.Kinds[kind].Name, got, named[kind])
		}
		if len(want[kind]) != len(format.Kinds[kind].Fields) {
			t.Fatalf("%s: the test knows %d fields of %d", format.Kinds[kind].Name, len(want[kind]), len(format.Kinds[kind].Fields))
		}
		for i, v := range want[kind] {
			if e.V[i] != v {
				t.Errorf("%s: %s = %d, want %d", format.Kinds[kind].Name, format.Kinds[kind].Fields[i].Name, e.V[i], v)
			}
		}
		if addr := map[format.Kind]string{format.KindTCPEndpoints: "2001:db8::9", format.KindTCPConnect: "192.0.2.1"}[kind]; addr != "" && m.strings[1] != addr {
			t.Errorf("%s: address %q, want %q", format.Kinds[kind].Name, m.strings[1], addr)
		}
	}
}

// pairs are the records that are two events.
func pairs() map[format.Kind][]byte {
	state := bpf.RawTcpState{Hdr: hdr(bpf.RawKindTcpOpened, 5, 6, 7|2<<8|1<<24), Who: who("cli", 33), Conn: 9, Tx: 10, Rx: 11, Retransmits: 12, Srtt: 13, MinRtt: 14, SinceCall: 16}
	opened := bpf.RawTcpOpened{State: state, Netns: 4, Uid: 1000, Laddr: [16]uint8{192, 0, 2, 1}, Raddr: [16]uint8{192, 0, 2, 2}, Lport: 80, Rport: 4000, Family: 4, Birth: 1}
	ended := bpf.RawTcpEnded{State: state, Destroyed: 99, Disconnected: 1, Idle: 15}
	ended.State.Hdr.Kind = uint8(bpf.RawKindTcpEnded)
	return map[format.Kind][]byte{format.KindTCPEndpoints: bytesOf(&opened), format.KindTCPDestroy: bytesOf(&ended)}
}

func TestDecodePairs(t *testing.T) {
	state := []uint64{9, 7, 2, 0, 0, 10, 11, 12, 13, 14, 1, 16}
	for kind, want := range map[format.Kind][]uint64{
		format.KindTCPEndpoints: {9, 4, format.FamilyIPv4, 1, 80, 2, 4000, 1000},
		format.KindTCPDestroy:   {9, 10, 11, 12, 14, format.DisconnectNo, 15},
	} {
		var d Decoder
		m := newMemory()
		rec := pairs()[kind]
		if err := d.Decode(rec, m); err != nil {
			t.Fatal(err)
		}
		if len(rec) > 2*100 {
			t.Errorf("%s: the record of two events has %d bytes, over 200", format.Kinds[kind].Name, len(rec))
		}
		if len(m.events) != 2 {
			t.Fatalf("%s: %d events, want 2", format.Kinds[kind].Name, len(m.events))
		}
		other, change := m.events[0], m.events[1]
		at, task := int64(77), uint32(5)
		if kind == format.KindTCPDestroy {
			other, change, at, task = change, other, 99, 0
		}
		if other.Kind != kind || other.Time != at || m.tasks[other.Task].pid != task {
			t.Errorf("%s: kind %d at %d by %+v", format.Kinds[kind].Name, other.Kind, other.Time, m.tasks[other.Task])
		}
		if change.Kind != format.KindTCPState || change.Time != 77 || m.tasks[change.Task].comm != "cli" {
			t.Errorf("%s: beside it kind %d at %d by %+v", format.Kinds[kind].Name, change.Kind, change.Time, m.tasks[change.Task])
		}
		if got := other.V[:len(want)]; !slices.Equal(got, want) {
			t.Errorf("%s: %d, want %d", format.Kinds[kind].Name, got, want)
		}
		if got := change.V[:len(state)]; !slices.Equal(got, state) {
			t.Errorf("%s: the state beside it %d, want %d", format.Kinds[kind].Name, got, state)
		}
	}
}

// The addresses of a connection are a task's doing only at its birth, whoever
// changed the state beside them.
func TestDecodeOpenedByPacket(t *testing.T) {
	rec := pairs()[format.KindTCPEndpoints]
	rec[unsafe.Offsetof(bpf.RawTcpOpened{}.Birth)] = 0
	var d Decoder
	m := newMemory()
	if err := d.Decode(rec, m); err != nil {
		t.Fatal(err)
	}
	if m.events[0].Task != 0 || m.events[1].Task == 0 {
		t.Errorf("tasks %d and %d, want only that of the state", m.events[0].Task, m.events[1].Task)
	}
}

// records are all samples, with what to call them.
func records() map[string][]byte {
	all := map[string][]byte{}
	for kind, rec := range samples() {
		all[format.Kinds[kind].Name] = rec
	}
	for kind, rec := range pairs() {
		all[format.Kinds[kind].Name+" and tcp.state"] = rec
	}
	return all
}

func TestDecodeRefuses(t *testing.T) {
	for name, rec := range records() {
		for n := range rec {
			var d Decoder
			if err := d.Decode(rec[:n], newMemory()); err == nil {
				t.Fatalf("%s: %d bytes of %d were enough", name, n, len(rec))
			}
		}
	}
	var d Decoder
	alien := bytesOf(&bpf.RawAlloc{Hdr: hdr(bpf.RawKindAlloc, 1, 1, 0)})
	if err := d.Decode(alien, newMemory()); err == nil {
		t.Error("a heap record was decoded")
	}
	alien[unsafe.Offsetof(bpf.RawHdr{}.Kind)] = 255
	if err := d.Decode(alien, newMemory()); err == nil {
		t.Error("an unknown record was decoded")
	}
	rec := samples()[format.KindTCPEndpoints]
	rec[unsafe.Offsetof(bpf.RawTcpEndpoints{}.Family)] = 5
	if err := d.Decode(rec, newMemory()); err == nil {
		t.Error("an address of family 5 was decoded")
	}
}

type full struct{ *memory }

var errFull = errors.New("full")

func (full) Append(*format.Event) error { return errFull }

func TestDecodeReturnsSinkError(t *testing.T) {
	for name, rec := range records() {
		var d Decoder
		if err := d.Decode(rec, full{newMemory()}); !errors.Is(err, errFull) {
			t.Errorf("%s: %v, want the sink's error", name, err)
		}
	}
}

// The decoder's memory of addresses and names is bounded, whatever comes.
func TestCachesAreBounded(t *testing.T) {
	var d Decoder
	m := newMemory()
	r := bpf.RawTcpEndpoints{Hdr: hdr(bpf.RawKindTcpEndpoints, 5, 6, 0), Family: 6}
	for i := range uint64(3 * maxCached) {
		binary.LittleEndian.PutUint64(r.Laddr[:], i+1)
		for j := range 8 {
			r.Who.Comm[j] = int8(i >> (8 * j))
		}
		if err := d.Decode(bytesOf(&r), m); err != nil {
			t.Fatal(err)
		}
		m.events = m.events[:0]
	}
	if len(d.addrs) > maxCached || len(d.comms) > maxCached {
		t.Errorf("%d addresses and %d names are kept, over %d", len(d.addrs), len(d.comms), maxCached)
	}
}

func FuzzDecode(f *testing.F) {
	for _, rec := range records() {
		f.Add(rec)
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		var d Decoder
		m := newMemory()
		if err := d.Decode(rec, m); (err == nil) != (len(m.events) > 0) {
			t.Fatalf("error %v with %d events", err, len(m.events))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	var d Decoder
	m := newMemory()
	rec := samples()[format.KindTCPState]
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(rec, m); err != nil {
			b.Fatal(err)
		}
		m.events = m.events[:0]
	}
}
