package capture

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// TestDecoders wants a decoder for every kind of record that the programs send.
func TestDecoders(t *testing.T) {
	for k := bpf.RawKindStack; k < bpf.RawKindCount; k++ {
		if decoders[k].decode == nil {
			t.Errorf("records of kind %d have no decoder", k)
		}
		if stack := k == bpf.RawKindStack || k == bpf.RawKindSnapshot; decoders[k].kind == format.KindInvalid && !stack {
			t.Errorf("a lost record of kind %d would be of no kind", k)
		}
	}
}

// kernelless is a recorder without a kernel behind it, and the file it writes.
func kernelless(t testing.TB) (*recorder, *bytes.Buffer) {
	t.Helper()
	var file bytes.Buffer
	w, err := format.NewWriter(&file, format.Header{}, format.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{w: w, alive: map[uint32]bool{}, modules: newModules(), names: newSymbolizer(nil)}
	r.modules.w = w
	r.procs = newProcesses(w, r.modules)
	r.stacks = newStackTable(w, r.names, nowhere{})
	return r, &file
}

// nowhere is the kernel's map of stacks when there is none.
type nowhere struct{}

func (nowhere) Delete(any) error { return nil }

func record[T any](rec T) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&rec)), unsafe.Sizeof(rec)))
}

// FuzzDecode feeds the decoder with records that no program of ours would send.
// It may refuse them; what it takes has to be a valid capture.
func FuzzDecode(f *testing.F) {
	h := func(k bpf.RawKind) bpf.RawHdr { return bpf.RawHdr{Time: 1, Pid: 10, Tid: 11, Kind: uint8(k)} }
	f.Add(record(bpf.RawStack{Hdr: bpf.RawHdr{Kind: uint8(bpf.RawKindStack), Aux: 2}, Hash: 7}))
	f.Add(record(bpf.RawAlloc{Hdr: h(bpf.RawKindAlloc), Addr: 0x1000, Size: 32, Stack: 7}))
	f.Add(record(bpf.RawRealloc{Hdr: h(bpf.RawKindRealloc), Old: 0x1000, Addr: 0x2000, Entry: 9}))
	f.Add(record(bpf.RawFree{Hdr: h(bpf.RawKindFree), Addr: 0x2000}))
	f.Add(record(bpf.RawMap{Hdr: h(bpf.RawKindMap), Addr: 0x7000, Length: 4096}))
	f.Add(record(bpf.RawUnmap{Hdr: h(bpf.RawKindUnmap), Addr: 0x7000, Length: ^uint64(0)}))
	f.Add(record(bpf.RawRemap{Hdr: h(bpf.RawKindRemap)}))
	f.Add(record(bpf.RawBrk{Hdr: h(bpf.RawKindBrk), Asked: 5, Now: 5}))
	f.Add(record(bpf.RawFork{Hdr: h(bpf.RawKindFork), ChildPid: 12, ChildTid: 12}))
	f.Add(record(bpf.RawExec{Hdr: h(bpf.RawKindExec), StartCode: 1}))
	f.Add(record(bpf.RawExit{Hdr: bpf.RawHdr{Kind: uint8(bpf.RawKindExit), Pid: 10, Tid: 10, Aux: 1}}))
	f.Add(record(bpf.RawComm{Hdr: h(bpf.RawKindComm)}))
	f.Add(record(bpf.RawMapping{Hdr: h(bpf.RawKindMapping), Start: ^uint64(0), Length: 2}))
	f.Add(record(bpf.RawTcpState{Hdr: h(bpf.RawKindTcpState)}))
	f.Fuzz(func(t *testing.T, rec []byte) {
		r, file := kernelless(t)
		if len(rec) >= int(unsafe.Sizeof(bpf.RawHdr{})) {
			// No process of this machine: what /proc says of one is not the test's.
			for _, at := range []uintptr{unsafe.Offsetof(bpf.RawHdr{}.Pid), unsafe.Offsetof(bpf.RawHdr{}.Tid)} {
				binary.NativeEndian.PutUint32(rec[at:], binary.NativeEndian.Uint32(rec[at:])|1<<30)
			}
		}
		for range 2 { // the second time, what the first made is there
			if r.decode(rec) != nil {
				break
			}
		}
		r.names.finish(r.w)
		r.modules.close()
		if err := r.w.Close(format.Trailer{}); err != nil {
			t.Fatal(err)
		}
		c, err := format.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range c.Events(format.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
