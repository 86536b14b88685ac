package export

import (
	"fmt"
	"math"

	"github.com/google/pprof/profile"
)

// A Profile is what a heap profile says besides its samples.
type Profile struct {
	StartUnixNs int64
	DurationNs  int64
	Comments    []string
}

// PProf builds a heap profile. The samples' four values are the allocations,
// their bytes, the blocks in use and their bytes: the sample types, in the
// order by which pprof knows a heap profile, with inuse_space as the default.
// Values beyond int64 are cut to its greatest.
func PProf(p Profile, samples []Sample) (*profile.Profile, error) {
	b := pprofBuilder{
		p: &profile.Profile{
			SampleType: []*profile.ValueType{
				{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"},
				{Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"},
			},
			DefaultSampleType: "inuse_space",
			PeriodType:        &profile.ValueType{Type: "space", Unit: "bytes"},
			Period:            1,
			TimeNanos:         p.StartUnixNs,
			DurationNanos:     p.DurationNs,
			Comments:          p.Comments,
			DropFrames:        allocatorFrames,
		},
		mappings:  map[string]*profile.Mapping{},
		functions: map[[2]string]*profile.Function{},
		locations: map[string]*profile.Location{},
	}
	b.program(samples)
	for _, s := range samples {
		b.sample(s)
	}
	if err := b.p.CheckValid(); err != nil {
		return nil, fmt.Errorf("build pprof profile: %w", err)
	}
	return b.p, nil
}

type pprofBuilder struct {
	p         *profile.Profile
	mappings  map[string]*profile.Mapping
	functions map[[2]string]*profile.Function
	locations map[string]*profile.Location
}

// program makes the program's own mapping the first: pprof takes that one for
// what was profiled.
func (b *pprofBuilder) program(samples []Sample) {
	for _, s := range samples {
		for i := range s.Stack {
			if f := &s.Stack[i]; f.Module != "" && (f.Function == "main" || f.Function == "_start") {
				b.mapping(f)
				return
			}
		}
	}
}

func (b *pprofBuilder) sample(s Sample) {
	out := &profile.Sample{Value: make([]int64, len(s.Values))}
	for i, v := range s.Values {
		out.Value[i] = int64(min(v, math.MaxInt64))
	}
	for at := 0; at < len(s.Stack); {
		end := at
		for end < len(s.Stack)-1 && s.Stack[end].Inlined {
			end++
		}
		out.Location = append(out.Location, b.location(s.Stack[at:end+1]))
		at = end + 1
	}
	if len(out.Location) == 0 {
		out.Location = append(out.Location, b.location([]Frame{{Function: "[unknown]"}}))
	}
	b.p.Sample = append(b.p.Sample, out)
}

// location returns the location of one address: its frame, before it those
// inlined there.
func (b *pprofBuilder) location(frames []Frame) *profile.Location {
	key := fmt.Sprintf("%#v", frames)
	if l := b.locations[key]; l != nil {
		return l
	}
	outer := &frames[len(frames)-1]
	l := &profile.Location{ID: uint64(len(b.p.Location) + 1), Address: outer.Offset % moduleSpan}
	if outer.Module != "" {
		l.Mapping = b.mapping(outer)
		l.Address += l.Mapping.Start
	}
	for i := range frames {
		l.Line = append(l.Line, profile.Line{Function: b.function(&frames[i]), Line: int64(frames[i].Line)})
	}
	b.locations[key] = l
	b.p.Location = append(b.p.Location, l)
	return l
}

// moduleSpan is the room that each module gets in the profile's addresses. The
// capture knows file offsets; pprof wants addresses that are unique.
const moduleSpan = 1 << 40

func (b *pprofBuilder) mapping(f *Frame) *profile.Mapping {
	key := f.Module + "\x00" + f.BuildID
	m := b.mappings[key]
	if m == nil {
		id := uint64(len(b.p.Mapping) + 1)
		m = &profile.Mapping{
			ID: id, Start: id * moduleSpan, Limit: (id + 1) * moduleSpan, File: f.Module, BuildID: f.BuildID,
			HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true,
		}
		b.mappings[key] = m
		b.p.Mapping = append(b.p.Mapping, m)
	}
	return m
}

func (b *pprofBuilder) function(f *Frame) *profile.Function {
	key := [2]string{f.Name(), f.File}
	fn := b.functions[key]
	if fn == nil {
		name := Escape(key[0])
		fn = &profile.Function{ID: uint64(len(b.p.Function) + 1), Name: name, SystemName: name, Filename: f.File}
		b.functions[key] = fn
		b.p.Function = append(b.p.Function, fn)
	}
	return fn
}
