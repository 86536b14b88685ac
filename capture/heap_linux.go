package capture

import (
	"github.com/cilium/ebpf"
	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/format"
)

type heapProbes struct {
	r  *recorder
	at *probe.Attacher
}

func (h *heapProbes) check() {}

func (r *recorder) attachHeap() error {
	fs, err := r.tracing()
	if err != nil {
		return err
	}
	at, err := probe.NewAttacher(fs)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, at.Close)
	r.heap = &heapProbes{r, at}
	path := "/lib/x86_64-linux-gnu/libc.so.6"
	e, err := probe.OpenELF(path)
	if err != nil {
		return err
	}
	att := func(name string, prog *ebpf.Program, ret bool, delta, cookie uint64) error {
		s, err := e.Lookup(name)
		if err != nil {
			return err
		}
		off, _ := e.Offset(s.Addr)
		_, err = at.Attach(probe.Point{Name: name, Path: path, Offset: off + delta, Return: ret}, prog, cookie)
		return err
	}
	for _, f := range []struct {
		n  string
		fn uint64
		sh bpf.RawShape
	}{{"malloc", format.FnMalloc, bpf.RawShapeOfSize}, {"calloc", format.FnCalloc, bpf.RawShapeOfCalloc}, {"realloc", format.FnRealloc, bpf.RawShapeOfRealloc}} {
		if err := att(f.n, r.objs.HeapEnter, false, 0, f.fn|uint64(f.sh)<<8); err != nil {
			return err
		}
		if err := att(f.n, r.objs.HeapReturn, true, 0, 0); err != nil {
			return err
		}
	}
	if err := att("free", r.objs.HeapFree, false, 3, format.FnFree); err != nil {
		return err
	}
	return r.attachMemory(fs)
}

func (r *recorder) started(p *process) error {
	if r.heap != nil {
		return r.heap.at.AddTarget(int(p.pid))
	}
	return nil
}
