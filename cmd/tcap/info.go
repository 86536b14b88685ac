package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

func infoCommand() *cobra.Command {
	var (
		format string
		out    string
		all    bool
		wide   bool
	)
	cmd := &cobra.Command{
		Use:   "info FILE",
		Short: "Say what is in a capture, where from, and how complete",
		Long: `info tells what a capture says of itself. It reads the header, the tables and
the end, not the events, so it is quick on large files and does not notice
damage inside a block; "tcap verify" reads everything.`,
		Example: `  tcap info run.tcap
  tcap info run.tcap --format json | jq .kinds`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) (err error) {
			if format != "text" && format != "json" {
				return usagef("--format %q: it can be text or json", format)
			}
			r, err := open(argv[0])
			if err != nil {
				return err
			}
			defer r.Close()
			s := survey(r)
			s.File.Path = argv[0]
			w, closeOut, err := output(out)
			if err != nil {
				return err
			}
			buf := bufio.NewWriter(w)
			if format == "json" {
				enc := json.NewEncoder(buf)
				enc.SetIndent("", "  ")
				err = enc.Encode(s)
			} else {
				err = printInfo(buf, s, columns(w, wide), all)
			}
			return errors.Join(err, buf.Flush(), closeOut())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&format, "format", "text", "`FORMAT` of the report: text or json")
	fs.StringVarP(&out, "output", "o", "", "write the report to `FILE`")
	registerWide(fs, &wide)
	fs.BoolVar(&all, "all", false, "list every process and module")
	return cmd
}

// A page writes text of a given width.
type page struct {
	*export.Text
}

const labelWidth = 10

// row writes "label  value" and wraps the value below itself.
func (p page) row(label, value string) {
	for _, line := range wrap(value, p.Width()-labelWidth) {
		p.Line("%s", strings.TrimRight(fmt.Sprintf("%-*s%s", labelWidth, label, line), " "))
		label = ""
	}
}

func printInfo(w io.Writer, s *summary, width int, all bool) error {
	p := page{export.NewText(w, width)}
	p.row("capture", escape(s.File.Path))
	p.origin(s)
	p.end(s)
	p.row("file", fmt.Sprintf("%s, format %s, %s, %s%s", humanize.IBytes(uint64(s.File.SizeBytes)), s.File.Format,
		things(s.File.Blocks, "block"), things(s.Events, "event"), perEvent(s)))
	t := s.Tables
	p.row("tables", strings.Join([]string{things(t.Strings, "string"), things(t.Modules, "module"), things(t.Frames, "frame"),
		things(t.Stacks, "stack"), things(t.Tasks, "task"), things(t.Symbols, "symbol")}, ", "))
	p.stacks(s)
	p.copies(s)
	p.symbols(s)
	for _, n := range s.Completeness.Notes {
		p.row("warning", escape(n))
	}
	p.damage(s)
	p.kinds(s)
	p.processes(s, all)
	p.modules(s, all)
	p.Line("")
	p.Para(s.trust(), "")
	return p.Flush()
}

// stacks says how many stacks are complete, and what is the matter with the others.
func (p page) stacks(s *summary) {
	var all uint64
	for _, n := range s.StackEnds {
		all += n
	}
	if all == 0 {
		return
	}
	whole := s.StackEnds[format.EndComplete.String()]
	text := fmt.Sprintf("complete for %s of %s events (%.4g %%)", humanize.Comma(int64(whole)), humanize.Comma(int64(all)),
		math.Floor(1e4*float64(whole)/float64(all))/1e2) // 100 % is all
	for end := range format.StackEnds {
		if n := s.StackEnds[end.String()]; n > 0 && end != format.EndComplete {
			text += fmt.Sprintf("; %s %s", humanize.Comma(int64(n)), end.Explain())
		}
	}
	p.row("stacks", text)
}

// copies says that the capture holds what was on stacks.
func (p page) copies(s *summary) {
	if s.File.SnapshotBytes == 0 {
		return
	}
	p.row("PRIVATE", fmt.Sprintf("it holds copies of the programs' stacks, with whatever was there: %s, %s of the file. \"tcap symbolize\" unwinds and drops them, \"tcap redact\" drops them.",
		humanize.IBytes(uint64(s.File.SnapshotRawBytes)), humanize.IBytes(uint64(s.File.SnapshotBytes))))
}

// things writes how many of a thing there are.
func things[N int | int64 | uint64](n N, unit string) string { return export.Counted(uint64(n), unit) }

func comma(n int) string { return humanize.Comma(int64(n)) }

func perEvent(s *summary) string {
	if s.Events == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.2f bytes each)", float64(s.File.SizeBytes)/float64(s.Events))
}

func (p page) origin(s *summary) {
	c := &s.Capture
	if c.StartUnixNs == 0 {
		p.row("recorded", "unknown: the header of the file is damaged")
		return
	}
	start := time.Unix(0, c.StartUnixNs).UTC().Format("2006-01-02 15:04:05.000 UTC")
	p.row("recorded", fmt.Sprintf("%s, for %s", start, seconds(c.DurationNs)))
	host := []string{escape(c.Host), escape(c.OS + " " + c.Kernel), escape(c.Arch)}
	if c.CPUs > 0 {
		host = append(host, things(c.CPUs, "CPU"))
	}
	p.row("on", strings.Join(host, ", "))
	p.row("by", "tcap "+escape(c.ToolVersion))
	p.row("command", escape(strings.Join(c.Command, " ")))
	if len(c.Targets) > 0 {
		p.row("targets", escape(strings.Join(c.Targets, "; ")))
	} else {
		p.row("targets", "the whole machine")
	}
	packs := escape(strings.Join(c.Packs, ", "))
	if c.Stacks != "" {
		packs += "; stacks: " + escape(c.Stacks)
	}
	p.row("packs", packs)
}

func (p page) end(s *summary) {
	if s.End.Clean {
		text := "clean: " + escape(s.End.Reason)
		if s.End.ExitStatus != 0 {
			text += fmt.Sprintf(", the command's status was %d", s.End.ExitStatus)
		}
		p.row("end", text)
		return
	}
	text := "NOT CLEAN: the recorder was killed, or the file was cut."
	if s.End.TailBytes > 0 {
		text += fmt.Sprintf(" The last %s bytes are no whole block.", humanize.Comma(s.End.TailBytes))
	}
	if s.End.FlushNs > 0 {
		text += fmt.Sprintf(" If it was killed, about %s of events are missing: it flushed that often.", time.Duration(s.End.FlushNs))
	}
	p.row("end", text)
}

// seconds writes ns as seconds with three decimals.
func seconds(ns int64) string { return fmt.Sprintf("%.3f s", float64(ns)/1e9) }

func (p page) damage(s *summary) {
	for i, d := range s.Damage {
		const most = 20
		if i == most {
			p.row("", fmt.Sprintf("and %d more", len(s.Damage)-most))
			break
		}
		p.row("damage", d.String())
	}
}

// String says where the damage is and what was there, as far as known.
func (d *damageAt) String() string {
	s := fmt.Sprintf("%s block at offset %d, %s bytes: %s", d.Block, d.Offset, humanize.Comma(d.Length), d.Error)
	if d.Events != nil && *d.Events > 0 {
		s += fmt.Sprintf("; %s missing", things(*d.Events, "event"))
	}
	switch {
	case d.FromNs != nil && d.ToNs != nil:
		s += fmt.Sprintf("; between %s and %s", seconds(*d.FromNs), seconds(*d.ToNs))
	case d.FromNs != nil:
		s += fmt.Sprintf("; after %s", seconds(*d.FromNs))
	case d.ToNs != nil:
		s += fmt.Sprintf("; before %s", seconds(*d.ToNs))
	}
	return s
}

// describeDamage is damageAt.String for a part found while reading.
func describeDamage(r *format.Reader, d *format.Damage) string {
	at := describe(r, d)
	return at.String()
}

func (p page) kinds(s *summary) {
	if len(s.Kinds) == 0 {
		return
	}
	if s.CountedFrom != "end" {
		var names []string
		for _, k := range s.Kinds {
			names = append(names, escape(k.Kind))
		}
		p.row("kinds", strings.Join(names, ", ")+" (how many of each is told by the end of a file, which is not there)")
		return
	}
	tab := export.Table{
		Head:  []string{"KIND", "EVENTS", "BYTES", "BYTES/EVENT", "LOST"},
		Right: []bool{false, true, true, true, true},
		Drop:  []int{0, 0, 1, 2, 0},
	}
	for _, k := range s.Kinds {
		tab.Rows = append(tab.Rows, []string{escape(k.Kind), humanize.Comma(int64(*k.Events)),
			humanize.IBytes(*k.Bytes), fmt.Sprintf("%.2f", k.BytesPerEvent), humanize.Comma(int64(k.Lost))})
	}
	if n := s.Completeness.LostEvents["unknown"]; n > 0 {
		tab.Rows = append(tab.Rows, []string{"unknown", "", "", "", humanize.Comma(int64(n))})
	}
	p.Line("")
	p.Table(tab, "")
}

// some is how many rows a list has without --all.
const some = 20

func (p page) processes(s *summary, all bool) {
	if len(s.Processes) == 0 {
		return
	}
	tab := export.Table{
		Head: []string{"PID", "UID", "THREADS", "NAMES"}, Right: []bool{true, true, true, false}, Drop: []int{0, 1, 2, 0}, Wrap: true,
	}
	for i, proc := range s.Processes {
		if i == some && !all {
			tab.Rows = append(tab.Rows, []string{fmt.Sprintf("%d more (--all lists them)", len(s.Processes)-some)})
			break
		}
		tab.Rows = append(tab.Rows, []string{strconv.Itoa(int(proc.Pid)), strconv.Itoa(int(proc.Uid)), comma(proc.Threads), escape(strings.Join(proc.Comms, ", "))})
	}
	p.Line("")
	p.Table(tab, "")
}

// trust is the last line.
func (s *summary) trust() string {
	if s.complete() {
		return "Complete: no event lost, clean end."
	}
	return "INCOMPLETE: " + s.verdict() + "."
}
