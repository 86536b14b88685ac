package symbolize

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/tcap-dev/tcap/capture/snapshot"
	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/capture/unwind"
	"github.com/tcap-dev/tcap/format"
)

// Unwound says what became of a capture's copies of stacks.
type Unwound struct {
	Stacks  int // copies that the capture has
	Better  int // of these, those of which more is known now
	Missing []MissingModule
	Kept    bool // copies are left, for a later time
}

// A MissingModule is one that stacks go through and that was not found.
type MissingModule struct {
	Path    string
	BuildID string
	Stacks  int // that wait for it
	Others  []symbol.Mismatch
}

// errArch is that a capture comes from a machine whose stacks are not known.
var errArch = errors.New("stacks of this architecture cannot be unwound")

var archs = map[string]unwind.Arch{"amd64": unwind.AMD64, "arm64": unwind.ARM64}

// Unwind finds the callers in the copies of stacks that a capture holds, and adds
// to a what the stacks are. Modules are found as [symbol.Resolver.FindCode] says; a
// stack that comes to one that is not there ends at it, and still waits. When none
// waits any more, the copies, which have the program's secrets, are left out of what a writes.
// The error is the context's, or about the capture.
func Unwind(ctx context.Context, r *format.Reader, a *format.Amender, debugDirs []string) (*Unwound, error) {
	out := &Unwound{}
	arch, ok := archs[r.Header().Arch]
	if stored, _ := r.SnapshotBytes(); stored == 0 {
		return out, nil
	} else if !ok {
		return nil, fmt.Errorf("unwind: %w: %q", errArch, r.Header().Arch)
	}
	f := finisher{r: r, a: a, arch: arch, told: map[format.StackID]bool{}, missing: map[format.ModuleID]int{}, out: out}
	f.res = symbol.NewResolver(symbol.Options{DebugDirs: debugDirs})
	defer f.res.Close()
	f.modules = map[format.ModuleID]*codeFile{}
	defer f.close()
	for range runtime.GOMAXPROCS(0) {
		f.walkers = append(f.walkers, snapshot.NewWalker(debugDirs))
	}
	if err := f.all(ctx); err != nil {
		return nil, fmt.Errorf("unwind: %w", err)
	}
	f.report()
	out.Kept = len(out.Missing) > 0 || !a.DropSnapshots()
	return out, a.CountEnds()
}

// A finisher unwinds the copies of a capture.
type finisher struct {
	r       *format.Reader
	a       *format.Amender
	res     *symbol.Resolver
	arch    unwind.Arch
	walkers []*snapshot.Walker // one for each goroutine
	modules map[format.ModuleID]*codeFile
	told    map[format.StackID]bool // whole stacks whose end was told
	missing map[format.ModuleID]int // stacks that wait for a module
	out     *Unwound
}

// A codeFile is a module as it is unwound.
type codeFile struct {
	id     format.ModuleID
	file   snapshot.File
	found  bool
	others []symbol.Mismatch
}

// A task is a copy of a stack and what was found in it.
type task struct {
	stack  format.StackID
	jit    format.ModuleID // of code in no file
	maps   []snapshot.Mapping
	at     unwind.Snapshot
	frames []unwind.Frame
	end    format.StackEnd
	waits  *codeFile // nil unless the end is EndWaiting
}

// batch is how many copies are unwound at once: some MiB.
const batch = 1024

func (f *finisher) all(ctx context.Context) error {
	tasks := make([]task, 0, batch)
	var last []format.CodeMapping
	var maps []snapshot.Mapping
	var jit format.ModuleID
	for s, err := range f.r.Snapshots() {
		if err != nil {
			continue // it is among the capture's damage
		}
		if len(last) != len(s.Maps) || len(last) > 0 && &last[0] != &s.Maps[0] || maps == nil {
			last = s.Maps
			maps, jit = f.mappings(s.Maps)
		}
		point := unwind.Returned
		if s.Inside {
			point = unwind.Inside
		}
		var rest []unwind.Part
		for _, p := range s.Rest {
			rest = append(rest, unwind.Part{At: p.At, Memory: append([]byte(nil), p.Memory...)})
		}
		tasks = append(tasks, task{
			stack: s.Stack, jit: jit, maps: maps,
			at: unwind.Snapshot{
				Arch: f.arch, Point: point, PC: s.PC, SP: s.SP, FP: s.FP, LR: s.LR, Regs: s.Regs,
				Stack: append([]byte(nil), s.Memory...), Rest: rest,
			},
		})
		if len(tasks) == batch {
			if err := f.some(ctx, tasks); err != nil {
				return err
			}
			tasks = tasks[:0]
		}
	}
	return f.some(ctx, tasks)
}

// mappings are those of a capture with the files that are here, and the module of
// code in no file.
func (f *finisher) mappings(list []format.CodeMapping) (maps []snapshot.Mapping, jit format.ModuleID) {
	maps = make([]snapshot.Mapping, 0, len(list))
	for _, m := range list {
		if m.End == 0 {
			jit = m.Module
			continue
		}
		maps = append(maps, snapshot.Mapping{Start: m.Start, End: m.End, Offset: m.Offset, File: &f.module(m.Module).file})
	}
	return maps, jit
}

// module looks for a module once.
func (f *finisher) module(id format.ModuleID) *codeFile {
	if c := f.modules[id]; c != nil {
		return c
	}
	m := f.r.Module(id)
	c := &codeFile{id: id}
	c.file = snapshot.File{Path: m.Path, Owner: c}
	f.modules[id] = c
	file, others, err := f.res.FindCode(m.Path, m.BuildID)
	c.others = others
	if err != nil {
		return c
	}
	c.found = true
	c.file.Path = file.Name()
	c.file.Open = func() (*os.File, error) { return os.Open(c.file.Path) }
	file.Close()
	return c
}

// some unwinds copies on all CPUs and tells of them in their order.
func (f *finisher) some(ctx context.Context, tasks []task) error {
	var wg sync.WaitGroup
	for n, w := range f.walkers {
		wg.Go(func() {
			for i := n; i < len(tasks) && ctx.Err() == nil; i += len(f.walkers) {
				tasks[i].run(w)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i := range tasks {
		f.tell(&tasks[i])
	}
	return nil
}

// run unwinds a copy. From the first frame on that lies in a module that is
// not here, the unwinder guessed: that is left out.
func (t *task) run(w *snapshot.Walker) {
	frames, end, _ := w.Walk(t.maps, &t.at)
	t.frames, t.end = frames, snapshot.EndOf(end)
	for i := range frames {
		in, _ := snapshot.Place(&frames[i], t.maps)
		if in == nil {
			continue
		}
		if c := in.File.Owner.(*codeFile); !c.found {
			t.frames, t.end, t.waits = frames[:i+1], format.EndWaiting, c
			return
		}
	}
}

// tell adds to the capture what a stack is.
func (f *finisher) tell(t *task) {
	f.out.Stacks++
	if t.waits != nil {
		f.missing[t.waits.id]++
	}
	whole := format.StackID(0)
	for i := len(t.frames) - 1; i >= 0; i-- {
		whole = f.a.Stack(whole, f.frame(t, &t.frames[i]))
	}
	if f.r.Whole(t.stack) == whole && f.r.StackEnd(t.stack) == t.end || t.waits != nil && len(t.frames) == 1 {
		return // nothing new
	}
	f.out.Better++
	f.a.EndStack(t.stack, whole, t.end)
	if !f.told[whole] {
		f.told[whole] = true
		f.a.EndStack(whole, whole, t.end)
	}
}

func (f *finisher) frame(t *task, fr *unwind.Frame) format.FrameID {
	in, pc := snapshot.Place(fr, t.maps)
	if in == nil {
		return f.a.Frame(format.Frame{Module: t.jit, Offset: pc})
	}
	return f.a.Frame(format.Frame{Module: in.File.Owner.(*codeFile).id, Offset: in.Offset + pc - in.Start})
}

// report lists the modules that are missing, in the capture's order.
func (f *finisher) report() {
	for id := range f.r.ModuleIDs() {
		if n := f.missing[id]; n > 0 {
			m := f.r.Module(id)
			f.out.Missing = append(f.out.Missing, MissingModule{Path: m.Path, BuildID: m.BuildID, Stacks: n, Others: f.modules[id].others})
		}
	}
}

func (f *finisher) close() {
	for _, w := range f.walkers {
		w.Close()
	}
}
