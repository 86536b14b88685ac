package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

// filterFlags are the filters that every reading verb has.
type filterFlags struct {
	pids, tids []uint
	comms      []string
	kinds      []string
	from, to   string
}

// registerFree registers the filters whose names an analysis has not taken for
// a flag of its own of the same meaning.
func (f *filterFlags) registerFree(fs *pflag.FlagSet) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	all.SortFlags = false
	f.register(all)
	all.VisitAll(func(fl *pflag.Flag) {
		if fs.Lookup(fl.Name) == nil {
			fs.AddFlag(fl)
		}
	})
}

func (f *filterFlags) register(fs *pflag.FlagSet) {
	fs.UintSliceVar(&f.pids, "pid", nil, "only of process `PID` (repeatable)")
	fs.UintSliceVar(&f.tids, "tid", nil, "only of thread `TID` (repeatable)")
	for _, name := range []string{"pid", "tid"} {
		fs.Lookup(name).DefValue = "" // or the help says (default [])
	}
	fs.StringSliceVar(&f.comms, "comm", nil, "only of tasks called `NAME` (repeatable)")
	fs.StringVar(&f.from, "from", "", "from `TIME`: since the start (1.5s), or as a date (RFC 3339)")
	fs.StringVar(&f.to, "to", "", "up to `TIME`")
}

func (f *filterFlags) registerKinds(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.kinds, "kind", nil, "only these `KIND`s, as heap.free or tcp (repeatable)")
}

// filter turns the flags into a filter for one capture, whose clock they are on.
func (f *filterFlags) filter(r *format.Reader) (format.Filter, error) {
	out := format.Filter{Comms: f.comms}
	for _, p := range f.pids {
		out.Pids = append(out.Pids, uint32(p))
	}
	for _, t := range f.tids {
		out.Tids = append(out.Tids, uint32(t))
	}
	start := r.Header().Start
	var err error
	if out.From, err = instant("--from", f.from, start); err != nil {
		return out, err
	}
	if out.To, err = instant("--to", f.to, start); err != nil {
		return out, err
	}
	if out.From != 0 && out.To != 0 && out.To < out.From {
		return out, usagef("--to %s is before --from %s", f.to, f.from)
	}
	for _, name := range f.kinds {
		found := false
		for _, k := range r.Kinds() {
			if k.Name == name || strings.HasPrefix(k.Name, name+".") {
				out.Kinds.Add(k.Kind)
				found = true
			}
		}
		if !found {
			return out, usagef("--kind %s: this capture has no such kind; it has %s", name, kindNames(r))
		}
	}
	return out, nil
}

func kindNames(r *format.Reader) string {
	var names []string
	for _, k := range r.Kinds() {
		if k.Kind != format.KindInvalid {
			names = append(names, k.Name)
		}
	}
	return strings.Join(names, ", ")
}

// instant reads a time on the capture's monotonic clock; 0 for "".
func instant(flag, s string, start format.ClockAnchor) (int64, error) {
	if s == "" {
		return 0, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return start.Mono + int64(d), nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		return start.Mono + int64(sec*1e9), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return start.Mono + t.UnixNano() - start.Wall, nil
	}
	return 0, usage(fmt.Errorf("%s %q: not a time; say 1.5s since the start, or a date as 2006-01-02T15:04:05Z", flag, s))
}
