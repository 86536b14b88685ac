// Package symbolize completes a capture after the recording, on any machine: it
// names frames that the recorder could not name, from debug files that are known
// by the build-ids of the modules. Nothing is ever fetched from the network.
//
// It adds rows to the capture's tables through a [format.Amender] and touches no
// event.
package symbolize

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
)

// A Module says what became of a module's frames.
type Module struct {
	Path    string
	BuildID string
	Frames  Count // how many there are, and how many had which names before
	Better  Count // those that got names, or lines, now
	Err     error // why it could not be looked up, [symbol.ErrNotFound] for instance
	Others  []symbol.Mismatch
}

// A Count counts frames.
type Count struct {
	All   int
	Named int // have a function
	Lined int // have a line
}

// A Report says what was found, module by module, in the capture's order; only
// modules with frames are in it.
type Report struct{ Modules []Module }

// Sum adds up a report's counts.
func (r *Report) Sum() (frames, better Count) {
	for i := range r.Modules {
		m := &r.Modules[i]
		frames.All, frames.Named, frames.Lined = frames.All+m.Frames.All, frames.Named+m.Frames.Named, frames.Lined+m.Frames.Lined
		better.All, better.Named, better.Lined = better.All+m.Better.All, better.Named+m.Better.Named, better.Lined+m.Better.Lined
	}
	return frames, better
}

// Survey counts the frames of each module and their names.
func Survey(r *format.Reader) *Report {
	rep := &Report{}
	for _, in := range framesByModule(r, nil) {
		m := r.Module(in.module)
		out := Module{Path: m.Path, BuildID: m.BuildID}
		for _, f := range in.frames {
			out.Frames.add(known(r.Frames(f.id, nil)))
		}
		rep.Modules = append(rep.Modules, out)
	}
	return rep
}

// framesOf are the frames of a module.
type framesOf struct {
	module format.ModuleID
	frames []frameAt
}

type frameAt struct {
	id     format.FrameID
	offset uint64
}

// framesByModule lists the frames of each module that has some, by its number, those
// that were added to the capture, too.
func framesByModule(r *format.Reader, added []format.NewFrame) []framesOf {
	at := map[format.ModuleID]int{}
	var out []framesOf
	add := func(id format.FrameID, f format.Frame) {
		if f.Module == 0 {
			return
		}
		i, ok := at[f.Module]
		if !ok {
			i = len(out)
			at[f.Module] = i
			out = append(out, framesOf{module: f.Module})
		}
		out[i].frames = append(out[i].frames, frameAt{id, f.Offset})
	}
	for id := range r.FrameIDs() {
		add(id, r.Frame(id))
	}
	for _, f := range added {
		add(f.ID, f.Frame)
	}
	slices.SortFunc(out, func(a, b framesOf) int { return cmp.Compare(a.module, b.module) })
	return out
}

// knowledge is what is known of a frame: 1 for its function, 2 for a line.
type knowledge int

func known(frames []format.Frame) (k knowledge) {
	if len(frames) == 0 {
		return 0
	}
	if frames[len(frames)-1].Function != "" {
		k |= 1
	}
	if frames[0].File != "" && frames[0].Line > 0 {
		k |= 2
	}
	return k
}

func (c *Count) add(k knowledge) {
	c.All++
	c.Named += int(k & 1)
	c.Lined += int(k >> 1)
}

// Run names frames of a capture and adds the names to a. debugDirs are searched
// as [symbol.Resolver.Find] says. Frames whose names would get no better are left
// as they are. The error is the context's.
func Run(ctx context.Context, r *format.Reader, a *format.Amender, debugDirs []string) (*Report, error) {
	res := symbol.NewResolver(symbol.Options{DebugDirs: debugDirs})
	defer res.Close()
	rep := &Report{}
	for _, in := range framesByModule(r, a.NewFrames()) {
		m := r.Module(in.module)
		out := Module{Path: m.Path, BuildID: m.BuildID}
		resolve := func(uint64) []format.Symbol { return nil }
		mod, others, err := res.Find(m.Path, m.BuildID, m.Address)
		if made := perfMap(m, debugDirs); made != nil {
			resolve, err = func(offset uint64) []format.Symbol { return namesMade(made, offset) }, nil
		} else if mod != nil {
			resolve = func(offset uint64) []format.Symbol { return names(mod, offset) }
		}
		out.Err, out.Others = err, others
		for n, f := range in.frames {
			if n%1024 == 0 && ctx.Err() != nil {
				return nil, fmt.Errorf("symbolize: %w", context.Cause(ctx))
			}
			old := known(r.Frames(f.id, nil))
			out.Frames.add(old)
			symbols := resolve(f.offset)
			if now := knownSymbols(symbols); now > old {
				a.Symbolize(f.id, symbols)
				out.Better.add(now &^ old)
			}
		}
		if mod != nil {
			out.Err = errors.Join(out.Err, mod.Err())
		}
		rep.Modules = append(rep.Modules, out)
	}
	return rep, nil
}

// names resolves an offset, which as in every stack is that of a return address.
func names(m *symbol.Module, offset uint64) []format.Symbol {
	var out []format.Symbol
	for _, f := range m.Resolve(offset, true) {
		out = append(out, format.Symbol{Function: f.Function, File: f.File, Line: uint32(f.Line), Inlined: f.Inlined})
	}
	return out
}

func knownSymbols(symbols []format.Symbol) knowledge {
	frames := make([]format.Frame, len(symbols))
	for i, s := range symbols {
		frames[i] = format.Frame{Function: s.Function, File: s.File, Line: s.Line}
	}
	return known(frames)
}
