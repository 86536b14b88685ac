package analyze

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// Capture says where a result comes from; the "capture" object of every JSON
// document.
type Capture struct {
	Host        string   `json:"host"`
	Kernel      string   `json:"kernel"`
	Arch        string   `json:"arch"`
	ToolVersion string   `json:"tool_version"`
	Command     []string `json:"command"`
	Start       string   `json:"start"`         // RFC 3339 with nanoseconds, UTC
	StartUnixNs int64    `json:"start_unix_ns"` // the same
	DurationNs  int64    `json:"duration_ns"`   // from the start to the end, or to the last event of a cut file

	// StartMonoNs is the start on the clock of the events.
	StartMonoNs int64 `json:"-"`
}

// Since returns an event's time as ns since the start of the recording.
func (c Capture) Since(t int64) int64 { return t - c.StartMonoNs }

// Completeness says what a capture is known to lack; the "completeness"
// object of every JSON document.
type Completeness struct {
	LostEvents    map[string]uint64 `json:"lost_events"`            // by kind; "unknown" where the recorder cannot say
	Truncated     bool              `json:"truncated"`              // it ends before the recording did: the file was cut, or could not be written on
	CleanEnd      bool              `json:"clean_end"`              // the file was not cut
	DamagedBlocks int               `json:"damaged_blocks"`         // blocks that could not be read
	MissingEvents uint64            `json:"missing_events"`         // events in damaged blocks, as far as known
	LossWindows   []LossWindow      `json:"loss_windows"`           // when events were lost
	Notes         []string          `json:"notes"`                  // warnings of the recorder
	NotUnwound    bool              `json:"not_unwound,omitempty"`  // stacks still are copies, which tcap symbolize is to unwind
	NotRecorded   string            `json:"not_recorded,omitempty"` // what the answer would stand on, a pack; "": it was
}

// A LossWindow is a stretch of time in which events were lost. Times are ns
// since the start of the recording.
type LossWindow struct {
	Kind   string `json:"kind"` // "unknown" when the recorder cannot say
	Count  uint64 `json:"count"`
	FromNs int64  `json:"from_ns"`
	ToNs   int64  `json:"to_ns"`
}

// Lost is the number of events that the recorder knows it lost.
func (c Completeness) Lost() uint64 {
	var n uint64
	for _, v := range c.LostEvents {
		n = addSat(n, v)
	}
	return n
}

// Complete reports whether the result stands on everything that happened.
func (c Completeness) Complete() bool {
	return c.Lost() == 0 && !c.Truncated && c.DamagedBlocks == 0 && c.MissingEvents == 0 && c.NotRecorded == ""
}

// Line is the trust line that ends every text report.
func (c Completeness) Line() string {
	if c.Complete() {
		return "Complete: no event lost, clean end."
	}
	var parts []string
	if c.NotRecorded != "" {
		parts = append(parts, "nothing of "+c.NotRecorded+" was recorded")
	}
	if n := c.Lost(); n > 0 {
		parts = append(parts, fmt.Sprintf("%s lost while recording (%s)", counted(n, "event"), c.lostByKind()))
	}
	if c.DamagedBlocks > 0 {
		parts = append(parts, counted(uint64(c.DamagedBlocks), "damaged block")+" skipped")
	}
	if c.MissingEvents > 0 {
		parts = append(parts, counted(c.MissingEvents, "event")+" of the file missing")
	}
	switch {
	case c.Truncated && c.CleanEnd:
		parts = append(parts, "the file could not be written to the end of the recording, what came after is unknown")
	case c.Truncated:
		parts = append(parts, "the file has no clean end, what came after is unknown")
	}
	return "INCOMPLETE: " + strings.Join(parts, "; ") + "."
}

// text writes the recorder's warnings and the trust line.
func (c Completeness) text(t *export.Text) {
	for _, n := range c.Notes {
		t.Para("Warning of the recorder: "+export.Escape(n), "  ")
	}
	if c.NotUnwound {
		t.Para("Stacks are not unwound yet (--unwind offline): tcap symbolize finishes them.", "  ")
	}
	t.Para(c.Line(), "  ")
}

func (c Completeness) lostByKind() string {
	var parts []string
	for _, k := range sortedKeys(c.LostEvents) {
		parts = append(parts, k+" "+export.Count(c.LostEvents[k]))
	}
	return strings.Join(parts, ", ")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Describe reads what a capture says about itself: its header, the losses and
// the warnings that the recorder noted, and the damage found so far. Damage
// inside a block shows only when the block is read, so an analyzer calls
// Describe after its pass. pack is what the answer stands on, a word of
// Header.Packs, or "".
func Describe(r *format.Reader, pack string) (Capture, Completeness, error) {
	c := describeCapture(r)
	q := Completeness{
		LostEvents:  map[string]uint64{},
		LossWindows: []LossWindow{},
		Notes:       []string{},
	}
	if packs := r.Header().Packs; pack != "" && len(packs) > 0 && !slices.Contains(packs, pack) {
		q.NotRecorded = pack
	}
	if copies, _ := r.SnapshotBytes(); copies > 0 {
		q.NotUnwound = true
	}
	end, clean := r.Trailer()
	q.CleanEnd, q.Truncated = clean, !clean || end.Truncated
	q.MissingEvents = end.Unwritten
	kinds := format.NewKindSet(format.KindLoss, format.KindNote)
	for e, err := range r.Events(format.Filter{Kinds: kinds}) {
		if isCorrupt(err) {
			continue // r.Damage has it
		}
		if err != nil {
			return c, q, fmt.Errorf("read the capture's losses: %w", err)
		}
		q.note(c, r, e)
	}
	q.addDamage(r)
	return c, q, nil
}

func (q *Completeness) note(c Capture, r *format.Reader, e *format.Event) {
	switch e.Kind {
	case format.KindLoss:
		name := lossKindName(r, e.V[format.LossKind])
		n := e.V[format.LossCount]
		q.LostEvents[name] = addSat(q.LostEvents[name], n)
		q.LossWindows = append(q.LossWindows, LossWindow{
			Kind: name, Count: n,
			FromNs: c.Since(int64(e.V[format.LossFrom])),
			ToNs:   c.Since(int64(e.V[format.LossTo])),
		})
	case format.KindNote:
		if e.V[format.NoteLevel] == noteWarning {
			q.Notes = append(q.Notes, r.String(format.StringID(e.V[format.NoteText])))
		}
	}
}

// noteWarning is "warning" in the levels of meta.note.
const noteWarning = 1

const unknownKind = "unknown"

// lossKindName names the kind of lost events, which may be one that only a
// newer program knows.
func lossKindName(r *format.Reader, kind uint64) string {
	if kind == 0 || kind > 255 {
		return unknownKind
	}
	return r.KindInfo(format.Kind(kind)).Name
}

func describeCapture(r *format.Reader) Capture {
	h := r.Header()
	c := Capture{
		Host: h.Host, Kernel: h.Kernel, Arch: h.Arch, ToolVersion: h.ToolVersion,
		Command: h.Command, StartUnixNs: h.Start.Wall, StartMonoNs: h.Start.Mono,
	}
	if c.Command == nil {
		c.Command = []string{}
	}
	c.Start = time.Unix(0, c.StartUnixNs).UTC().Format(time.RFC3339Nano)
	c.DurationNs = captureEnd(r) - c.StartMonoNs
	return c
}

// addDamage takes over the damage that the reader has found so far.
func (q *Completeness) addDamage(r *format.Reader) {
	q.DamagedBlocks, q.MissingEvents = 0, 0
	for _, d := range r.Damage() {
		q.DamagedBlocks++
		q.MissingEvents = addSat(q.MissingEvents, uint64(max(d.Events, 0)))
	}
}
