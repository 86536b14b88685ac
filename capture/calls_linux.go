package capture

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/call"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/format"
)

// callProbes are the declared probes while they record.
type callProbes struct {
	targetProbes
	sites  []*callSite // by their number, from 1
	rooms  call.Rooms
	room   int // sites that the programs' map holds
	places map[uint32]uint32
	chains map[uint32]int // sites by place
	files  map[fileSymbols]bool

	awaited   []*Probe // whose files may be mapped later
	hitters   bool     // a process became a target
	strangers strangers
	args      []format.Arg
	data      []byte
	unentered uint64 // returns of functions that nobody knows by name
}

// A callSite is a declared probe at a place.
type callSite struct {
	spec    *Probe
	program *call.Program
	path    string // as people know it
	symbol  string
	entry   probe.Point // of a program
	ret     *probe.Point
	shared  bool // its declaration has several places
	row     format.ProbeID
	hits    uint64
	trial   trial
}

// fileSymbols is a declaration in a file, which may be found by many processes.
type fileSymbols struct {
	file moduleKey
	spec *Probe
}

const (
	// spareSites is for places that are found while recording.
	spareSites = 64
	// maxSites bounds the places of all declarations.
	maxSites = 4096
)

// resolveCalls finds the places of the declared probes, as far as they are there
// now. It comes before the programs are loaded, which have room for so many.
func (r *recorder) resolveCalls() error {
	if err := r.resolveApps(); err != nil {
		return err
	}
	if len(r.opts.Probes) == 0 {
		return nil
	}
	c := &callProbes{places: map[uint32]uint32{}, chains: map[uint32]int{}, files: map[fileSymbols]bool{}}
	c.r = r
	r.calls = c
	pids, err := r.targetPids()
	if err != nil {
		return err
	}
	for i := range r.opts.Probes {
		spec := &r.opts.Probes[i]
		found, err := c.find(spec, pids)
		if err = c.await(spec, err); err != nil {
			if !spec.Optional {
				return declared(spec, err)
			}
			if err := r.note(true, declared(spec, err).Error()); err != nil {
				return err
			}
		}
		c.sites = append(c.sites, found...)
	}
	if len(c.sites) > maxSites {
		return &OptionError{fmt.Errorf("the declared probes have %d places, at most %d can be recorded: narrow the patterns", len(c.sites), maxSites)}
	}
	programs, err := c.awaitedPrograms()
	if err != nil {
		return err
	}
	for _, s := range c.sites {
		programs = append(programs, s.program)
	}
	c.rooms = call.RoomsFor(programs)
	c.room = len(c.sites) + spareSites
	return nil
}

// declared names the declaration that an error is about.
func declared(spec *Probe, err error) error {
	if spec.Pack != "" {
		return fmt.Errorf("pack %s, probe %s: %w", spec.Pack, spec.Name, err)
	}
	return fmt.Errorf("-e %s: %w", spec.Decl.Source, err)
}

// sizeCalls fits the programs and their maps to what is declared, before they are
// loaded.
func (r *recorder) sizeCalls(spec *ebpf.CollectionSpec) error {
	c := r.calls
	if c == nil {
		return nil
	}
	spec.Maps["probes"].MaxEntries = uint32(c.room + 1)
	spec.Maps["places"].MaxEntries = tables * pageOffsets
	for _, name := range []string{"callers", "no_caller"} {
		m := spec.Maps[name]
		m.ValueSize = uint32(c.rooms.Value())
		m.Key, m.Value = nil, nil // whose type has no room
	}
	for name, n := range map[string]int{"caller_room": c.rooms.Caller, "record_room": c.rooms.Record, "text_room": c.rooms.Text} {
		if err := spec.Variables[name].Set(uint32(n)); err != nil {
			return fmt.Errorf("set %s of the BPF programs: %w", name, err)
		}
	}
	return nil
}

// attachCalls attaches the programs to all places.
func (r *recorder) attachCalls() error {
	c := r.calls
	probes, tfs, err := r.newTargetProbes("calls", !r.opts.auto)
	if err != nil {
		return err
	}
	c.targetProbes = probes
	c.arm = c.armProcess
	if tfs == nil {
		return fmt.Errorf("declared probes need tracefs: %w", errNoTracefs)
	}
	if err := c.attach(0); err != nil {
		return err
	}
	if len(c.awaited) > 0 {
		r.modules.opened = append(r.modules.opened, c.appeared)
	}
	if r.opts.targeted() {
		return nil
	}
	// Threads that end leave no trace of the calls that they were in.
	if !r.followsHits() {
		if err := r.attachTracing(r.objs.ProcessExit); err != nil {
			return err
		}
	}
	return c.at.AddEveryone()
}

var errNoTracefs = errors.New("it cannot be used; see `tcap doctor`")

// armProcess finds the places that a process has and others have not, as when it has a
// root directory of its own.
func (c *callProbes) armProcess(pid uint32) error {
	first := len(c.sites)
	for i := range c.r.opts.Probes {
		spec := &c.r.opts.Probes[i]
		if spec.Decl.InKernel() {
			continue
		}
		files, err := candidates(spec.Decl.Path, []uint32{pid})
		if err != nil {
			continue
		}
		found, err := c.inFiles(spec, files)
		if err != nil { // it was found for another, or will be told of
			continue
		}
		c.sites = append(c.sites, found...)
	}
	return c.attachFrom(first)
}

// attachFrom attaches the sites from first on, as far as there is room for them.
func (c *callProbes) attachFrom(first int) error {
	if len(c.sites) > c.room {
		c.sites = c.sites[:c.room]
		if err := c.warn(fmt.Sprintf("the declared probes are in more than %d places: what was found last is not recorded", c.room)); err != nil {
			return err
		}
	}
	return c.attach(first)
}

// attach tells the programs of the sites from first on, and attaches them.
func (c *callProbes) attach(first int) error {
	var specs []probe.Spec
	for i := first; i < len(c.sites); i++ {
		s := c.sites[i]
		if err := c.declareSite(s, uint32(i+1)); err != nil {
			return err
		}
		if s.spec.Decl.InKernel() {
			if err := c.attachKernel(s, uint64(i+1)); err != nil {
				return declared(s.spec, err)
			}
			continue
		}
		table, err := c.tell(s, uint32(i+1))
		if err != nil {
			return declared(s.spec, err)
		}
		if s.ret != nil {
			cookie := uint64(i + 1)
			if s.shared {
				cookie = 0
			}
			specs = append(specs, probe.Spec{Point: *s.ret, Prog: c.r.objs.CallReturn, Cookie: cookie})
		}
		specs = append(specs, probe.Spec{Point: s.entry, Prog: c.r.objs.CallEnter, Cookie: table})
	}
	if len(specs) == 0 {
		return nil
	}
	// Returns come first: an entry whose return is not seen would look like a
	// call that was left.
	slices.SortStableFunc(specs, func(a, b probe.Spec) int { return int(flag(b.Point.Return)) - int(flag(a.Point.Return)) })
	if _, err := c.at.AttachAll(specs); err != nil {
		return c.failed(err)
	}
	return nil
}

// declareSite puts the site into the programs' map and, once there is a capture,
// into its table of probes.
func (c *callProbes) declareSite(s *callSite, id uint32) error {
	if err := c.r.objs.Probes.Put(id, &s.program.Raw); err != nil {
		return fmt.Errorf("tell the programs of %s: %w", s.name(), err)
	}
	if c.r.w == nil {
		return nil // newWriter will
	}
	return c.describe(s)
}

// describe puts the site into the capture's table of probes.
func (c *callProbes) describe(s *callSite) error {
	p := format.Probe{Name: s.name(), Pack: s.spec.Pack, Role: s.spec.Role, Declaration: s.spec.Decl.Declaration(s.path, s.symbol)}
	p.Args = s.program.Args
	var err error
	s.row, err = c.r.w.Probe(p)
	return err
}

func (s *callSite) name() string {
	switch d := s.spec.Decl; {
	case s.spec.Name != "" && s.shared:
		return s.spec.Name + ":" + s.symbol
	case s.spec.Name != "":
		return s.spec.Name
	case d.InKernel():
		return string(d.Kind) + ":" + s.symbol
	default:
		return string(d.Kind) + ":" + filepath.Base(s.path) + ":" + s.symbol
	}
}

// tell says to the programs which site is at a place, and returns the table in
// which it does. Of several at one place, each names the next.
func (c *callProbes) tell(s *callSite, id uint32) (table uint64, err error) {
	slot := uint32(s.entry.Offset % pageOffsets)
	for table := range uint32(tables) {
		at := table*pageOffsets + slot
		old := c.places[at]
		if old != 0 {
			other := c.sites[old-1]
			if other.entry.Path != s.entry.Path || other.entry.Offset != s.entry.Offset {
				continue
			}
			if c.chains[at]++; c.chains[at] >= call.MaxChain {
				return 0, fmt.Errorf("probe %s: %d probes at one place are the most there can be", s.symbol, call.MaxChain)
			}
			s.program.Raw.Next = old
			if err := c.r.objs.Probes.Put(id, &s.program.Raw); err != nil {
				return 0, fmt.Errorf("tell the programs of %s: %w", s.name(), err)
			}
		}
		c.places[at] = id
		if err := c.r.objs.Places.Put(at, id); err != nil {
			return 0, fmt.Errorf("tell the programs of %s: %w", s.name(), err)
		}
		return uint64(table), nil
	}
	return 0, fmt.Errorf("probe %s: %d functions share its offset in a page; narrow the pattern", s.symbol, tables)
}

// called decodes a record of a call.
func (r *recorder) called(rec []byte) error {
	h, err := view[bpf.RawHdr](rec)
	if err != nil {
		return err
	}
	c := r.calls
	switch {
	case c == nil || h.Aux > uint32(len(c.sites)):
		return fmt.Errorf("%w: a call of probe %d, which is not recorded", bpf.ErrRecord, h.Aux)
	case h.Aux == 0:
		c.unentered++
		return nil
	case r.ended != 0 && int64(h.Time) > r.ended && h.Fn != uint8(bpf.RawOutcomeCallUnfinished):
		return nil
	}
	return c.tellCall(c.sites[h.Aux-1], rec)
}

// tellCall writes the event of a call.
func (c *callProbes) tellCall(s *callSite, rec []byte) error {
	head := bpf.RawCalled{}
	copy(bytesOf(&head), rec)
	r := c.r
	e := &format.Event{Kind: format.KindCall, Time: int64(head.Hdr.Time)}
	task, space := c.task(&head)
	e.Task = task
	var err error
	c.args, err = s.program.Decode(rec, c.args[:0], func(addr uint64) format.FrameID { return r.stacks.symbol(addr, space) })
	if err != nil {
		return fmt.Errorf("%w: %s: %w", bpf.ErrRecord, s.name(), err)
	}
	s.hits++
	if len(s.trial.checks) > 0 && head.Hdr.Fn != uint8(bpf.RawOutcomeCallUnentered) {
		if ok, err := s.trial.passes(c, s); !ok {
			return err
		}
	}
	p := format.Probe{Declaration: format.Declaration{Args: s.program.Args}}
	c.data, e.V[format.CallFaults] = format.AppendArgs(c.data[:0], &p, c.args)
	e.Data = c.data
	e.V[format.CallProbe] = uint64(s.row)
	e.V[format.CallOutcome] = uint64(head.Hdr.Fn)
	e.V[format.CallDuration] = head.Duration
	e.V[format.CallDepth] = uint64(head.Depth)
	e.V[format.CallStack] = uint64(c.stackRow(s.spec.Decl, head.Stack, space))
	return r.w.Append(e)
}

// task returns the row of the caller, and its address space. A task that is not
// followed is described as it was at the call, and so is one that has another user id
// than at its exec.
func (c *callProbes) task(head *bpf.RawCalled) (format.TaskID, *space) {
	r, pid := c.r, head.Hdr.Pid
	if r.alive[pid] {
		if !r.opts.targeted() { // its name was not seen to change
			r.procs.rename(pid, head.Hdr.Tid, cstring(head.Comm[:]))
		}
		task, t := r.procs.task(pid, head.Hdr.Tid), r.procs.last
		if t.proc.uid != head.Uid {
			task = r.w.Task(format.Task{Pid: pid, Tid: t.tid, Uid: head.Uid, Space: t.proc.space.id, Comm: t.comm})
		}
		return task, t.proc.space
	}
	id := c.strangers.space(pid, head.Image, r.procs)
	task := format.Task{Pid: pid, Tid: head.Hdr.Tid, Uid: head.Uid, Space: id, Comm: cstring(head.Comm[:])}
	return r.w.Task(task), &c.strangers.nowhere
}
