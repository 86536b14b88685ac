// Package analyze turns the events of a capture into answers.
//
// An analyzer makes one pass over a capture and returns one result; every
// output (text, JSON, CSV, folded stacks, pprof) is rendered from that result,
// so that they cannot disagree. Memory is proportional to what is alive in the
// recorded programs, not to the length of the file. The package knows no
// operating system: a capture is analyzed wherever it was mailed to.
//
// Conventions of every result: an instant is in nanoseconds since the start
// of the recording (capture.start_unix_ns plus it is wall time), a duration in
// nanoseconds, a size in bytes, and a total is exact or says by how much it
// may be wrong.
package analyze

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/pprof/profile"
	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

// An Analyzer is a row of the list of analyses.
type Analyzer struct {
	Name  string // the word after "tcap analyze"
	Short string // one line
	Long  string // the help text
	Pack  string // what must have been recorded, a word of Header.Packs; "" when the analyzer tells itself
	// New registers the analyzer's own flags and returns the Runner that
	// reads them once they have been parsed.
	New func(fs *pflag.FlagSet) Runner
}

// A Runner analyzes captures with the flags it was made with.
type Runner interface {
	// Run reads the capture once. The filter's pids, tids and comms select
	// what is reported, its times the window that is looked at; each
	// analyzer documents what an instant on the edge means. Damage in the
	// capture is no error: it is in the result's completeness.
	Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error)
}

// A Result is the answer of an analyzer. It may look stacks up in the capture's
// Reader, which must stay open for as long as the result is rendered.
type Result interface {
	// Text writes tables of at most width columns, and ends with the line
	// that says how far to trust them.
	Text(w io.Writer, width int) error
	// JSON returns the value whose encoding docs/json.md describes.
	JSON() any
	// CSV writes RFC 4180 records, the first of which names the columns.
	CSV(w io.Writer) error
	// Completeness says what the capture the result stands on lacks.
	Completeness() Completeness
}

// A Folder is a Result that has stacks with a weight.
type Folder interface {
	// Folded writes a line per stack, outermost frame first: "main;f;g 42".
	Folded(w io.Writer) error
}

// A Profiler is a Result that has a pprof form.
type Profiler interface {
	PProf() (*profile.Profile, error)
}

// A jsonStreamer is a Result too long to be encoded at once: it writes the
// value that JSON() returns, with other white space.
type jsonStreamer interface {
	writeJSON(w io.Writer) error
}

// List returns the analyses, in the order of the help text.
func List() []Analyzer {
	return []Analyzer{
		leaksAnalyzer,
		heapAnalyzer,
		tcpAnalyzer,
		callsAnalyzer,
		closesAnalyzer,
		queriesAnalyzer,
		commandsAnalyzer,
		timelineAnalyzer,
	}
}

// ErrFormat is the error of an output format that a result does not have.
var ErrFormat = errors.New("no such output format here")

// Formats names the output formats of a result, the default first.
func Formats(res Result) []string {
	names := []string{"text", "json", "csv"}
	if _, ok := res.(Profiler); ok {
		names = append(names, "pprof")
	}
	if _, ok := res.(Folder); ok {
		names = append(names, "folded")
	}
	return names
}

// Render writes a result in a named format: text, json, csv, folded or pprof.
// width is that of the terminal, and 80 when there is none.
func Render(w io.Writer, res Result, name string, width int) error {
	switch name {
	case "text", "":
		return res.Text(w, width)
	case "json":
		if s, ok := res.(jsonStreamer); ok {
			return s.writeJSON(w)
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(res.JSON())
	case "csv":
		return res.CSV(w)
	case "folded":
		if f, ok := res.(Folder); ok {
			return f.Folded(w)
		}
	case "pprof":
		if p, ok := res.(Profiler); ok {
			prof, err := p.PProf()
			if err != nil {
				return err
			}
			return prof.Write(w)
		}
	}
	return fmt.Errorf("format %q: %w (it can be %s)", name, ErrFormat, strings.Join(Formats(res), ", "))
}
