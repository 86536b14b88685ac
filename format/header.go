package format

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// A ClockAnchor ties the two clocks of the recording machine together.
type ClockAnchor struct {
	Mono int64 `json:"mono_ns"` // CLOCK_MONOTONIC, ns
	Wall int64 `json:"wall_ns"` // CLOCK_REALTIME, ns since 1970; read at the same instant
}

// Header says where a capture comes from. It is the first block of the file,
// as JSON; keys that this version does not know are kept in Extra.
type Header struct {
	Tool        string      `json:"tool,omitempty"`
	ToolVersion string      `json:"tool_version,omitempty"` // version and commit
	Host        string      `json:"host,omitempty"`
	Kernel      string      `json:"kernel,omitempty"`
	Arch        string      `json:"arch,omitempty"` // as GOARCH
	OS          string      `json:"os,omitempty"`   // as in os-release
	CPUs        int         `json:"cpus,omitempty"`
	PageSize    int         `json:"page_size_bytes,omitempty"`
	Command     []string    `json:"command,omitempty"` // how the recorder was called
	Targets     []string    `json:"targets,omitempty"`
	Start       ClockAnchor `json:"start"`
	BootID      string      `json:"boot_id,omitempty"`
	Packs       []string    `json:"packs,omitempty"`
	Stacks      string      `json:"stacks,omitempty"`   // how stacks were taken: "dwarf", "fp", "none"
	Flush       int64       `json:"flush_ns,omitempty"` // how long the recorder kept events before it wrote them, at most

	Extra map[string]json.RawMessage `json:"-"`
}

// Trailer says how the recording ended. It is the last block of the file.
type Trailer struct {
	End        ClockAnchor `json:"end"`
	Reason     string      `json:"reason,omitempty"`      // "exit", "duration", "signal", "size", "disk full", ...
	ExitStatus int         `json:"exit_status,omitempty"` // of the recorded command
	Lost       uint64      `json:"lost,omitempty"`        // events that the recorder knows it lost

	// Truncated says that more happened than could be written, for the disk was
	// full, say. Unwritten counts the events that are missing at the end for
	// that reason, as far as known. The Writer sets both when a write fails.
	Truncated bool   `json:"truncated,omitempty"`
	Unwritten uint64 `json:"unwritten,omitempty"`

	// StackEnds counts the events with a stack by how that ends, by the names of
	// [StackEnd].
	StackEnds map[string]uint64 `json:"stack_ends,omitempty"`

	// Kinds sums up the events by kind, so that a reader need not count them.
	// The Writer fills it in.
	Kinds map[Kind]KindTotals `json:"kinds,omitempty"`

	Extra map[string]json.RawMessage `json:"-"`
}

// MarshalJSON writes the known keys and those of Extra.
func (h Header) MarshalJSON() ([]byte, error) {
	type plain Header
	return marshalExtra(plain(h), h.Extra)
}

// UnmarshalJSON reads the known keys and keeps the others in Extra.
func (h *Header) UnmarshalJSON(b []byte) error {
	type plain Header
	var p plain
	extra, err := unmarshalExtra(b, &p)
	*h = Header(p)
	h.Extra = extra
	return err
}

// MarshalJSON writes the known keys and those of Extra.
func (t Trailer) MarshalJSON() ([]byte, error) {
	type plain Trailer
	return marshalExtra(plain(t), t.Extra)
}

// UnmarshalJSON reads the known keys and keeps the others in Extra.
func (t *Trailer) UnmarshalJSON(b []byte) error {
	type plain Trailer
	var p plain
	extra, err := unmarshalExtra(b, &p)
	*t = Trailer(p)
	t.Extra = extra
	return err
}

func marshalExtra(known any, extra map[string]json.RawMessage) ([]byte, error) {
	b, err := json.Marshal(known)
	if err != nil || len(extra) == 0 {
		return b, err
	}
	all := maps.Clone(extra)
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// unmarshalExtra reads b into known and returns the keys that a round trip
// through known loses and that are therefore not its own.
func unmarshalExtra(b []byte, known any) (map[string]json.RawMessage, error) {
	if len(b) > maxJSON {
		return nil, fmt.Errorf("%w: %d bytes of JSON", ErrLimit, len(b))
	}
	if err := json.Unmarshal(b, known); err != nil {
		return nil, err
	}
	var extra map[string]json.RawMessage
	if err := json.Unmarshal(b, &extra); err != nil {
		return nil, err
	}
	for _, name := range jsonKeys(known) {
		delete(extra, name)
	}
	if len(extra) == 0 {
		return nil, nil
	}
	return extra, nil
}

// jsonKeys returns the keys of the struct that known points to.
func jsonKeys(known any) []string {
	t := reflect.TypeOf(known).Elem()
	keys := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		keys = append(keys, name)
	}
	return keys
}
