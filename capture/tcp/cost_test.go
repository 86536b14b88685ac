package tcp

import (
	"io"
	"testing"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// writerSink is a capture's file without the recorder around it.
type writerSink struct{ w *format.Writer }

func (s writerSink) Append(e *format.Event) error            { return s.w.Append(e) }
func (s writerSink) String(text string) format.StringID      { return s.w.String(text) }
func (writerSink) KernelStack(addrs []uint64) format.StackID { return format.StackID(len(addrs)) }

func (s writerSink) TaskOf(pid, tid uint32, comm string, uid uint32) format.TaskID {
	return s.w.Task(format.Task{Pid: pid, Tid: tid, Uid: uid, Comm: comm})
}

// BenchmarkConnectionToFile is what the reader of the ring pays for both ends of a
// short connection, from the records to the compressed blocks.
func BenchmarkConnectionToFile(b *testing.B) {
	w, err := format.NewWriter(io.Discard, format.Header{Start: format.ClockAnchor{Mono: 1}}, format.WriterOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var d Decoder
	s := writerSink{w}
	recs := lifeRecords()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j := range recs {
			stamp(recs[j], uint64(i))
			if err := d.Decode(recs[j], s); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := w.Close(format.Trailer{}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(w.Size())/float64(b.N), "bytes/op")
}

// lifeRecords are the records of a connection's two ends, the server closing first.
func lifeRecords() [][]byte {
	lo := [16]uint8{127, 0, 0, 1}
	state := func(conn uint64, pid, old, new uint32) []byte {
		r := bpf.RawTcpState{Hdr: hdr(bpf.RawKindTcpState, pid, pid, old|new<<8|3<<16), Conn: conn, Tx: 90, Rx: 140, Srtt: 40, MinRtt: 11}
		if pid != 0 {
			r.Who = who("nginx", 33)
		}
		return bytesOf(&r)
	}
	opened := func(conn uint64, pid, old, new uint32, lport, rport uint16) []byte {
		r := bpf.RawTcpOpened{State: bpf.RawTcpState{Hdr: hdr(bpf.RawKindTcpOpened, pid, pid, old|new<<8), Conn: conn},
			Netns: 4026531840, Laddr: lo, Raddr: lo, Lport: lport, Rport: rport, Family: 4}
		if pid != 0 {
			r.Birth, r.State.Who = 1, who("ab", 33)
		}
		return bytesOf(&r)
	}
	ended := func(conn uint64, old uint32) []byte {
		return bytesOf(&bpf.RawTcpEnded{State: bpf.RawTcpState{Hdr: hdr(bpf.RawKindTcpEnded, 0, 0, old|7<<8|3<<16), Conn: conn, Tx: 90, Rx: 140, Srtt: 40, MinRtt: 11}, Disconnected: 1})
	}
	return [][]byte{
		opened(1, 10, 7, 2, 0, 80), opened(1, 0, 2, 1, 4000, 80), opened(2, 0, 3, 1, 80, 4000),
		bytesOf(&bpf.RawTcpConnect{Hdr: hdr(bpf.RawKindTcpConnect, 10, 10, 115), Who: who("ab", 33), Fd: 5, Conn: 1, Duration: 20000, Raddr: lo, Netns: 4026531840, Rport: 80, Family: 4}),
		bytesOf(&bpf.RawTcpAccept{Hdr: hdr(bpf.RawKindTcpAccept, 20, 20, 7), Who: who("nginx", 33), Conn: 2}),
		state(2, 20, 1, 4), state(1, 0, 1, 8), state(2, 0, 4, 5), ended(2, 5), state(1, 10, 8, 9), ended(1, 9),
	}
}

// stamp makes the record one of the nth connection.
func stamp(rec []byte, n uint64) {
	h := (*bpf.RawHdr)(unsafe.Pointer(&rec[0]))
	h.Time = n*46_000 + uint64(h.Kind)*1700
	at := unsafe.Offsetof(bpf.RawTcpState{}.Conn) // the others begin with it
	switch bpf.RawKind(h.Kind) {
	case bpf.RawKindTcpConnect:
		at = unsafe.Offsetof(bpf.RawTcpConnect{}.Conn)
	case bpf.RawKindTcpAccept:
		at = unsafe.Offsetof(bpf.RawTcpAccept{}.Conn)
	}
	conn := (*uint64)(unsafe.Pointer(&rec[at]))
	*conn = *conn&3 | n<<2
}
