package capture

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/capture/tracefs"
)

// ListPlaces prints the places that a declaration means, one a line, as
// declarations.
func ListPlaces(w io.Writer, d *declare.Probe) error {
	return eachPlace(d, func(p place) error {
		_, err := fmt.Fprintf(w, "%s:%s\n", d.Kind, p.name)
		return err
	})
}

// maxExplained bounds the places that ExplainPlaces tells of.
const maxExplained = 8

// ExplainPlaces says of each place that a declaration means where it is, what a
// probe there costs, and what is known of its arguments.
func ExplainPlaces(w io.Writer, d *declare.Probe) error {
	n := 0
	return eachPlace(d, func(p place) error {
		if n++; n > maxExplained {
			return nil
		}
		if n > 1 {
			fmt.Fprintln(w)
		}
		return p.explain(w)
	})
}

// A place is one that a declaration means.
type place struct {
	name    string
	explain func(w io.Writer) error
}

func eachPlace(d *declare.Probe, fn func(place) error) error {
	if d.InKernel() {
		return eachKernelPlace(d, fn)
	}
	files, err := candidates(d.Path, nil)
	if err != nil {
		return err
	}
	var errs []error
	found := false
	for _, f := range files {
		some, err := inFile(d, f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = true
		for _, p := range some {
			if err := fn(p); err != nil {
				return err
			}
		}
	}
	if found {
		return nil
	}
	return errors.Join(errs...)
}

// inFile are the places of a declaration in one file.
func inFile(d *declare.Probe, f probedFile) ([]place, error) {
	e, err := probe.OpenELF(f.open)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	e.SetName(f.path)
	var list []place
	if d.Kind == declare.USDT {
		provider, name, _ := strings.Cut(d.Symbol, ":")
		marks, err := e.Marks(provider, name)
		if err != nil {
			return nil, err
		}
		if len(marks) == 0 {
			return nil, e.NoMark(provider, name)
		}
		for _, m := range marks {
			list = append(list, place{f.path + ":" + m.Provider + ":" + m.Name, func(w io.Writer) error { return m.WriteText(w, f.path) }})
		}
		return list, nil
	}
	symbols, err := functionsOf(e, d)
	if err != nil {
		return nil, err
	}
	for i, s := range symbols {
		p := place{name: f.path + ":" + declare.Quote(s.Name)}
		if i < maxExplained {
			x, err := e.Explain(s)
			if err != nil {
				return nil, err
			}
			if !e.IsUsed(s) {
				x.Warning = "nothing in the file calls it or names it: it may have been inlined or cloned" + e.Clones(s.Name) + ", and is never hit then"
			}
			if d.NeedsReturn() && e.IsGo() {
				x.Warning = "it is a Go program, whose stacks move: only the entry is probed"
			}
			p.explain = x.WriteText
		}
		list = append(list, p)
	}
	return list, nil
}

func eachKernelPlace(d *declare.Probe, fn func(place) error) error {
	fs, err := tracefs.Open()
	if err != nil {
		return err
	}
	defer fs.Close()
	if d.Kind != declare.Tracepoint {
		return eachKernelFunction(fs, d, fn)
	}
	group, name, _ := strings.Cut(d.Symbol, ":")
	names, err := fs.Events(group, name)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no tracepoint %s; tcap probes list 'tracepoint:*:*' lists all", d.Symbol)
	}
	for _, n := range names {
		err := fn(place{n[0] + ":" + n[1], func(w io.Writer) error {
			fields, err := fs.Format(n[0], n[1])
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "tracepoint %s:%s\n", n[0], n[1])
			for _, f := range fields {
				fmt.Fprintf(w, "  %-20s %-28s %3d bytes at %d\n", f.Name, f.Type, f.Size, f.Offset)
			}
			return nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func eachKernelFunction(fs *tracefs.FS, d *declare.Probe, fn func(place) error) error {
	if err := haveKprobes(d.Kind); err != nil {
		return err
	}
	names, err := matchingFunctions(fs, d.Symbol)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := fn(place{name, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s of the kernel\n  arguments are arg0 and on, as its platform's calling convention has them\n", name)
			return err
		}})
		if err != nil {
			return err
		}
	}
	return nil
}
