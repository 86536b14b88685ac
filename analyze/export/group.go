package export

import (
	"path"
	"slices"
	"strconv"
)

// A Grain says which frames are the same to a tree or a table.
type Grain string

// The grains, finest last.
const (
	ByModule   Grain = "module"
	ByFile     Grain = "file"
	ByFunction Grain = "function"
	ByLine     Grain = "line"
)

// Grains are the words for them.
var Grains = []string{string(ByFunction), string(ByModule), string(ByFile), string(ByLine)}

// Key is a frame without what does not tell it from others of the grain. Where
// a frame lacks what the grain goes by, it is known by what it has: a function
// without a name by its place in the module, a file by the module.
func (g Grain) Key(f *Frame) Frame {
	switch {
	case g == ByModule:
		return Frame{Module: f.Module}
	case g == ByFile && f.File != "":
		return Frame{File: f.File}
	case g == ByFile:
		return Frame{Module: f.Module}
	case f.Function == "":
		return Frame{Module: f.Module, Offset: f.Offset}
	case g == ByLine:
		return Frame{Function: f.Function, File: f.File, Line: f.Line, Module: f.Module}
	}
	return Frame{Function: f.Function, Module: f.Module}
}

// Name is what a report calls a key of the grain.
func (g Grain) Name(key *Frame) string {
	switch {
	case *key == Frame{} && (g == ByModule || g == ByFile):
		return "[unknown]"
	case g == ByModule:
		return path.Base(key.Module)
	case g == ByFile && key.File != "":
		return key.File
	case g == ByFile:
		return "[" + path.Base(key.Module) + "]"
	case g == ByLine && key.File != "" && key.Line > 0:
		return key.Name() + " " + path.Base(key.File) + ":" + strconv.FormatUint(uint64(key.Line), 10)
	}
	return key.Name()
}

// Nowhere is the frame of samples without a stack.
var Nowhere = Frame{Function: "[no stack]"}

// A Group is the share of one key.
type Group struct {
	Frame Frame
	Self  []uint64 // of the samples whose innermost frame it is
	Total []uint64 // of those that it is in, counted once each
}

// GroupBy sums up samples by the keys of a grain, in no particular order.
// The sum of Self over all groups is that of the samples.
func GroupBy(samples []Sample, g Grain) []*Group {
	byKey := map[Frame]*Group{}
	var groups []*Group
	group := func(key Frame, values int) *Group {
		if byKey[key] == nil {
			byKey[key] = &Group{Frame: key, Self: make([]uint64, values), Total: make([]uint64, values)}
			groups = append(groups, byKey[key])
		}
		return byKey[key]
	}
	var seen []*Group
	for _, s := range samples {
		seen = seen[:0]
		stack := s.Stack
		if len(stack) == 0 {
			stack = []Frame{Nowhere}
		}
		for i := range stack {
			to := group(g.Key(&stack[i]), len(s.Values))
			if i == 0 {
				addTo(to.Self, s.Values)
			}
			if !slices.Contains(seen, to) {
				seen = append(seen, to)
				addTo(to.Total, s.Values)
			}
		}
	}
	return groups
}

// addTo adds values, each of which stays at its greatest rather than wrap.
func addTo(sum, values []uint64) {
	for i, v := range values {
		if sum[i] += v; sum[i] < v {
			sum[i] = ^uint64(0)
		}
	}
}
