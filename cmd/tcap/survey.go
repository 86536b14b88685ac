package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/tcap-dev/tcap/analyze"
	"github.com/tcap-dev/tcap/format"
)

// A summary is what `tcap info` knows of a capture without reading its events:
// the header, the end, the tables and the list of blocks. It is also the JSON
// document.
type summary struct {
	Capture      origin       `json:"capture"`
	Completeness completeness `json:"completeness"`
	File         fileFacts    `json:"file"`
	End          end          `json:"end"`
	Events       uint64       `json:"events"`
	// CountedFrom is "end" when the sums by kind were written there, else
	// "blocks": the headers of the blocks tell no more than their sum.
	CountedFrom string    `json:"counted_from"`
	Kinds       []kindSum `json:"kinds"`
	Tables      tables    `json:"tables"`
	// StackEnds are the events with a stack by how that ends; null when the file
	// does not say.
	StackEnds map[string]uint64 `json:"stack_ends"`
	Processes []procSum         `json:"processes"`
	Modules   []modSum          `json:"modules"`
	Damage    []damageAt        `json:"damage"`
}

// origin is the "capture" object of every document and what the header has beyond it.
type origin struct {
	analyze.Capture
	OS        string   `json:"os"`
	CPUs      int      `json:"cpus"`
	PageBytes int      `json:"page_size_bytes"`
	Targets   []string `json:"targets"`
	Packs     []string `json:"packs"`
	Stacks    string   `json:"stacks"`
	BootID    string   `json:"boot_id"`
}

// completeness is the part of the "completeness" object of every document that
// is known without reading the events.
type completeness struct {
	LostEvents    map[string]uint64 `json:"lost_events"`
	Truncated     bool              `json:"truncated"`
	CleanEnd      bool              `json:"clean_end"`
	DamagedBlocks int               `json:"damaged_blocks"`
	MissingEvents uint64            `json:"missing_events"`
	Notes         []string          `json:"notes"`
}

type fileFacts struct {
	Path      string `json:"path"`
	SizeBytes int64  `json:"size_bytes"`
	Format    string `json:"format"`
	Blocks    int    `json:"blocks"`
	// Copies of stacks, which are private: what they take of the file, and
	// without compression.
	SnapshotBytes    int64 `json:"snapshot_bytes"`
	SnapshotRawBytes int64 `json:"snapshot_raw_bytes"`
}

type end struct {
	Clean      bool   `json:"clean"`
	Reason     string `json:"reason"`
	ExitStatus int    `json:"exit_status"`
	// Of a file without a clean end: the bytes after the last whole block, and
	// how much time the recorder let pass between flushes, 0 when unknown.
	TailBytes int64 `json:"tail_bytes"`
	FlushNs   int64 `json:"flush_ns"`
	// Events that came when the file could not be written any more, as far as known.
	Unwritten uint64 `json:"unwritten_events"`
}

type kindSum struct {
	Kind          string  `json:"kind"`
	Events        *uint64 `json:"events"` // null when only the presence is known
	Bytes         *uint64 `json:"bytes"`
	BytesPerEvent float64 `json:"bytes_per_event"`
	Lost          uint64  `json:"lost"`
}

type tables struct {
	Strings int `json:"strings"`
	Modules int `json:"modules"`
	Frames  int `json:"frames"`
	Stacks  int `json:"stacks"`
	Tasks   int `json:"tasks"`
	Symbols int `json:"symbols"`
	// SymbolBytes is what names, files and lines of frames take of the file, about.
	SymbolBytes int64 `json:"symbol_bytes"`
}

type procSum struct {
	Pid     uint32   `json:"pid"`
	Comms   []string `json:"comms"` // every name it had, in order
	Uid     uint32   `json:"uid"`
	Threads int      `json:"threads"`
}

type modSum struct {
	Path    string `json:"path"`
	BuildID string `json:"build_id"`
	Frames  int    `json:"frames"` // of stacks that lie in it
	Named   int    `json:"named"`  // of them, those with a function
	Lined   int    `json:"lined"`  // those with a line
	// DebugFile is where its debug file would lie below a directory that is given to
	// symbolize, and Package what the file comes from, as far as this machine
	// knows; "" when nothing is missing.
	DebugFile string `json:"debug_file"`
	Package   string `json:"package"`
}

type damageAt struct {
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Block  string `json:"block"`
	Error  string `json:"error"`
	FromNs *int64 `json:"from_ns"` // since the start; null when unknown
	ToNs   *int64 `json:"to_ns"`
	Events *int64 `json:"events"`
}

// survey gathers what a capture says of itself. It reads no block of events
// but the few with remarks.
func survey(r *format.Reader) *summary {
	h := r.Header()
	s := &summary{
		File: fileFacts{SizeBytes: r.Size(), Blocks: len(r.Blocks()), Format: formatVersion(r)},
		Capture: origin{
			OS: h.OS, CPUs: h.CPUs, PageBytes: h.PageSize, Targets: list(h.Targets), Packs: list(h.Packs), Stacks: h.Stacks, BootID: h.BootID,
			Capture: analyze.Capture{
				Host: h.Host, Kernel: h.Kernel, Arch: h.Arch, ToolVersion: h.ToolVersion, Command: list(h.Command),
				Start: time.Unix(0, h.Start.Wall).UTC().Format(time.RFC3339Nano), StartUnixNs: h.Start.Wall,
				StartMonoNs: h.Start.Mono,
			},
		},
	}
	s.File.SnapshotBytes, s.File.SnapshotRawBytes = r.SnapshotBytes()
	last := h.Start.Mono
	blocks := r.Blocks()
	for i := range blocks { // of a large file there are many, to be copied
		b := &blocks[i]
		s.Events += uint64(b.Events)
		if b.Events > 0 {
			last = max(last, b.LastTime)
		}
	}
	t, clean := r.Trailer()
	if clean {
		last = t.End.Mono
		s.End = end{Clean: true, Reason: t.Reason, ExitStatus: t.ExitStatus, Unwritten: t.Unwritten}
	}
	s.StackEnds = t.StackEnds
	s.Capture.DurationNs = max(last-h.Start.Mono, 0)
	s.kinds(r, t, clean)
	s.completeness(r, clean)
	s.tables(r)
	return s
}

func formatVersion(r *format.Reader) string {
	major, minor := r.Version()
	if major == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", major, minor)
}

// list makes JSON's [] of nothing.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// kinds sums up by kind: exactly from the end of the file or, without one,
// only which there are.
func (s *summary) kinds(r *format.Reader, t format.Trailer, clean bool) {
	s.Kinds, s.CountedFrom = []kindSum{}, "end"
	s.Completeness.LostEvents = map[string]uint64{}
	if !clean || t.Kinds == nil && s.Events > 0 {
		s.CountedFrom = "blocks"
		s.presentKinds(r)
		return
	}
	var kinds []format.Kind
	for k := range t.Kinds {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b format.Kind) int {
		return cmp.Or(cmp.Compare(t.Kinds[b].Bytes, t.Kinds[a].Bytes), cmp.Compare(a, b))
	})
	for _, k := range kinds {
		sum := t.Kinds[k]
		if sum.Lost > 0 {
			s.Completeness.LostEvents[lossName(r, k)] = sum.Lost
		}
		if k == format.KindInvalid {
			continue
		}
		row := kindSum{Kind: r.KindInfo(k).Name, Events: &sum.Events, Bytes: &sum.Bytes, Lost: sum.Lost}
		if sum.Events > 0 {
			row.BytesPerEvent = float64(sum.Bytes) / float64(sum.Events)
		}
		s.Kinds = append(s.Kinds, row)
	}
}

func lossName(r *format.Reader, k format.Kind) string {
	if k == format.KindInvalid {
		return "unknown"
	}
	return r.KindInfo(k).Name
}

// presentKinds names the kinds that the headers of the blocks tell of, and
// reads what the recorder said about losses, which nobody summed up.
func (s *summary) presentKinds(r *format.Reader) {
	var all format.KindSet
	for _, b := range r.Blocks() {
		for _, k := range r.Kinds() {
			if b.Kinds.Has(k.Kind) {
				all.Add(k.Kind)
			}
		}
	}
	for _, k := range r.Kinds() {
		if all.Has(k.Kind) && k.Kind != format.KindInvalid {
			s.Kinds = append(s.Kinds, kindSum{Kind: k.Name})
		}
	}
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindLoss)}) {
		if err == nil {
			s.Completeness.LostEvents[lossName(r, format.Kind(min(e.V[format.LossKind], 255)))] += e.V[format.LossCount]
		}
	}
}

func (s *summary) completeness(r *format.Reader, clean bool) {
	c := &s.Completeness
	t, _ := r.Trailer()
	c.CleanEnd, c.Truncated, c.MissingEvents = clean, !clean || t.Truncated, t.Unwritten
	c.Notes = notes(r)
	s.Damage = []damageAt{}
	for _, d := range r.Damage() {
		if !clean && d.Offset+d.Length == r.Size() {
			s.End.TailBytes = d.Length
		}
		c.DamagedBlocks++
		c.MissingEvents += uint64(max(d.Events, 0))
		s.Damage = append(s.Damage, describe(r, &d))
	}
	if !clean {
		s.End.FlushNs = r.Header().Flush
	}
}

// describe puts damage into the terms of a report.
func describe(r *format.Reader, d *format.Damage) damageAt {
	start := r.Header().Start.Mono
	at := damageAt{Offset: d.Offset, Length: d.Length, Block: d.Block.String(), Error: d.Err.Error()}
	if n := d.Events; n >= 0 {
		at.Events = &n
	}
	if from := d.From - start; d.From != 0 {
		at.FromNs = &from
	}
	if to := d.To - start; d.To != 0 {
		at.ToNs = &to
	}
	return at
}

// maxNoteBlocks bounds how many blocks are read for the recorder's remarks.
const maxNoteBlocks = 16

// notes returns the recorder's warnings.
func notes(r *format.Reader) []string {
	f := format.Filter{Kinds: format.NewKindSet(format.KindNote)}
	n, blocks := 0, r.Blocks()
	for i := range blocks {
		b := &blocks[i]
		if b.Kinds.Has(format.KindNote) {
			if n++; n == maxNoteBlocks {
				f.To = b.LastTime
				break
			}
		}
	}
	out := []string{}
	for e, err := range r.Events(f) {
		const warning = 1
		if err == nil && e.V[format.NoteLevel] == warning {
			out = append(out, r.String(format.StringID(e.V[format.NoteText])))
		}
	}
	return out
}

func (s *summary) tables(r *format.Reader) {
	sizes := r.TableSizes()
	s.Tables = tables{sizes.Strings, sizes.Modules, sizes.Frames, sizes.Stacks, sizes.Tasks, sizes.Symbols, r.SymbolBytes()}
	s.Processes = []procSum{}
	s.modules(r)
	at := map[uint32]int{}
	threads := map[[2]uint32]bool{}
	for id := range sizes.Tasks {
		t := r.Task(format.TaskID(id + 1))
		if t == (format.Task{}) {
			continue
		}
		i, ok := at[t.Pid]
		if !ok {
			i = len(s.Processes)
			at[t.Pid] = i
			s.Processes = append(s.Processes, procSum{Pid: t.Pid, Comms: []string{}, Uid: t.Uid})
		}
		p := &s.Processes[i]
		if !slices.Contains(p.Comms, t.Comm) {
			p.Comms = append(p.Comms, t.Comm)
		}
		if key := [2]uint32{t.Pid, t.Tid}; !threads[key] {
			threads[key] = true
			p.Threads++
		}
	}
}

func (s *summary) lost() uint64 {
	var n uint64
	for _, v := range s.Completeness.LostEvents {
		n += v
	}
	return n
}

func (s *summary) complete() bool {
	return s.lost() == 0 && !s.Completeness.Truncated && len(s.Damage) == 0
}

// verdict is one line on how complete the capture is.
func (s *summary) verdict() string {
	if s.complete() {
		return "complete: clean end, no event lost"
	}
	var parts []string
	if n := s.lost(); n > 0 {
		var by []string
		for _, k := range sorted(s.Completeness.LostEvents) {
			by = append(by, k+" "+humanize.Comma(int64(s.Completeness.LostEvents[k])))
		}
		parts = append(parts, fmt.Sprintf("%s lost while recording (%s)", things(n, "event"), strings.Join(by, ", ")))
	}
	if n := len(s.Damage); n > 0 {
		parts = append(parts, things(n, "damaged part")+" of the file")
	}
	if n := s.Completeness.MissingEvents; n > 0 {
		parts = append(parts, things(n, "event")+" missing from the file")
	}
	switch {
	case !s.End.Clean:
		parts = append(parts, "no clean end")
	case s.Completeness.Truncated:
		parts = append(parts, "it could not be written to the end")
	}
	return strings.Join(parts, "; ")
}

func sorted(m map[string]uint64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
