package capture

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/tcap-dev/tcap/capture/call"
	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/capture/tracefs"
)

// findKernel finds the sites of a declaration in the kernel.
func (c *callProbes) findKernel(spec *Probe) ([]*callSite, error) {
	if spec.Decl.Kind == declare.Tracepoint {
		return c.findTracepoints(spec)
	}
	if err := haveKprobes(spec.Decl.Kind); err != nil {
		return nil, err
	}
	site, err := nativeFunction()
	if err != nil {
		return nil, err
	}
	names := []string{spec.Decl.Symbol}
	if probe.IsPattern(spec.Decl.Symbol) {
		tfs, err := c.r.tracing()
		if err != nil {
			return nil, err
		}
		if names, err = matchingFunctions(tfs, spec.Decl.Symbol); err != nil {
			return nil, err
		}
	}
	var sites []*callSite
	for _, name := range names {
		program, err := call.Compile(spec.Decl, site)
		if err != nil {
			return nil, err
		}
		sites = append(sites, &callSite{spec: spec, program: program, symbol: name, shared: len(names) > 1})
	}
	return sites, nil
}

// haveKprobes refuses where the kernel has none.
func haveKprobes(kind declare.Kind) error {
	if _, err := os.Stat("/sys/bus/event_source/devices/kprobe"); err != nil {
		return fmt.Errorf("this kernel has no %ss (CONFIG_KPROBE_EVENTS); tracepoints are there: tcap probes list 'tracepoint:*:*'", kind)
	}
	return nil
}

// matchingFunctions are those that can be probed and match.
func matchingFunctions(tfs *tracefs.FS, pattern string) ([]string, error) {
	names, err := tfs.Functions()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		if ok, _ := path.Match(pattern, name); ok {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no function of the kernel that can be probed matches %s", pattern)
	}
	return found, nil
}

// findTracepoints finds the tracepoints of a declaration.
func (c *callProbes) findTracepoints(spec *Probe) ([]*callSite, error) {
	tfs, err := c.r.tracing()
	if err != nil {
		return nil, err
	}
	group, name, _ := strings.Cut(spec.Decl.Symbol, ":")
	names, err := tfs.Events(group, name)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is no tracepoint %s; tcap probes list 'tracepoint:%s:*' lists those that are there", spec.Decl.Symbol, group)
	}
	var sites []*callSite
	for _, n := range names {
		fields, err := tfs.Format(n[0], n[1])
		if err != nil {
			return nil, err
		}
		program, err := call.Compile(spec.Decl, tracepointSite(fields))
		if err != nil {
			return nil, fmt.Errorf("tracepoint %s:%s: %w", n[0], n[1], err)
		}
		sites = append(sites, &callSite{spec: spec, program: program, symbol: n[0] + ":" + n[1], shared: len(names) > 1})
	}
	return sites, nil
}

// tracepointSite is where the fields of a record are.
func tracepointSite(fields []tracefs.Field) call.Tracepoint {
	var site call.Tracepoint
	for _, f := range fields {
		site = append(site, call.TraceField{
			Name: f.Name, Offset: int32(f.Offset), Size: f.Size, Signed: f.Signed,
			Loc:    strings.HasPrefix(f.Type, "__data_loc"),
			RelLoc: strings.HasPrefix(f.Type, "__rel_loc"),
			Bytes:  strings.HasSuffix(f.Type, "]"),
			Array:  strings.Contains(f.Type, "char[") || strings.HasPrefix(f.Type, "char") && strings.HasSuffix(f.Type, "]"),
		})
	}
	return site
}

// attachKernel attaches a site in the kernel.
func (c *callProbes) attachKernel(s *callSite, cookie uint64) error {
	objs := &c.r.objs
	attach := func(prog *ebpf.Program, kind func(string, *ebpf.Program, *link.KprobeOptions) (link.Link, error)) error {
		l, err := kind(s.symbol, prog, &link.KprobeOptions{Cookie: cookie})
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the kernel has no function %s that can be probed; tcap probes list 'kprobe:*%s*'", s.symbol, s.symbol)
		}
		if err != nil {
			return fmt.Errorf("attach %s: %w", s.name(), err)
		}
		c.r.closers = append(c.r.closers, l.Close)
		return nil
	}
	if s.spec.Decl.Kind == declare.Tracepoint {
		tfs, err := c.r.tracing()
		if err != nil {
			return err
		}
		group, name, _ := strings.Cut(s.symbol, ":")
		closer, err := attachTracepointCookie(tfs, group, name, objs.CallTracepoint, cookie)
		if err != nil {
			return err
		}
		c.r.closers = append(c.r.closers, closer.Close)
		return nil
	}
	if s.program.NeedsReturn() {
		if err := attach(objs.CallKernelReturn, link.Kretprobe); err != nil {
			return err
		}
	}
	return attach(objs.CallKernel, link.Kprobe)
}
