// Package doctor finds out what recording on this machine would run into.
//
// It believes no version number where it can try instead: it loads tcap's own
// programs and attaches empty ones to each kind of hook that a recording uses,
// and detaches them at once. A check that fails says what that costs a
// recording and what to do about it.
package doctor

// State is the result of a check.
type State string

// States, best first.
const (
	OK      State = "ok"
	Limited State = "limited" // recording works, with the cost named
	Missing State = "missing"
)

// A Row is one check.
type Row struct {
	Check string `json:"check"`
	State State  `json:"state"`
	Found string `json:"found"`          // what this machine has
	Cost  string `json:"cost,omitempty"` // what recording lacks for it; "" when the state is OK
	Fix   string `json:"fix,omitempty"`  // what to do
}

// A Report is what a machine can record, and why.
type Report struct {
	Heap bool  `json:"heap"` // heap calls of target processes
	TCP  bool  `json:"tcp"`  // connections of the machine
	Rows []Row `json:"checks"`
}

// CanRecord reports whether a recording can be made at all.
func (r *Report) CanRecord() bool { return r.Heap || r.TCP }

// row returns a check by name.
func (r *Report) row(name string) (Row, bool) {
	for _, row := range r.Rows {
		if row.Check == name {
			return row, true
		}
	}
	return Row{}, false
}
