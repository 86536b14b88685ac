package tcp

import (
	"fmt"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// stack is where the kernel was. A stack that could not be taken has no row.
func (d *Decoder) stack(rec []byte, s Sink) error {
	r, err := view[bpf.RawTcpStack](rec)
	if err != nil {
		return err
	}
	n := r.Bytes / int64(unsafe.Sizeof(r.Ip[0]))
	if n > int64(len(r.Ip)) {
		return fmt.Errorf("%w: a stack of %d bytes", bpf.ErrRecord, r.Bytes)
	}
	e := &d.ev
	e.V[format.TCPConn] = r.Conn
	e.V[format.TCPStackAt] = uint64(r.Hdr.Aux & 0xff) // StackAtState and on, as the record has them
	e.V[format.TCPStackOld] = uint64(r.Hdr.Aux >> 8 & 0xff)
	e.V[format.TCPStackNew] = uint64(r.Hdr.Aux >> 16 & 0xff)
	e.V[format.TCPStackStack] = uint64(s.KernelStack(r.Ip[:max(n, 0)]))
	return s.Append(e)
}
