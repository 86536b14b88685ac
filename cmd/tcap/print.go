package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/format"
)

type printFlags struct {
	filters    filterFlags
	format     string
	output     string
	followTime bool
	strict     bool
}

func printCommand() *cobra.Command {
	var f printFlags
	cmd := &cobra.Command{
		Use:     "print FILE",
		Aliases: []string{"replay"},
		Short:   "Show the events of a capture, one a line",
		Long: `print writes one line per event, in the order of the file:

  TIME PID/TID COMM KIND field=value ...

TIME is in seconds since the start of the recording. Durations are in nanoseconds
(srtt and min_rtt in microseconds) and sizes in bytes. With --format json each
line is an object with the keys seq, time_ns, wall, pid, tid, comm and kind,
and then the fields of the kind.

Parts of the file that cannot be read are skipped and named on stderr as they
are met; with --strict the exit status then is 3. "tcap replay" is
"tcap print --follow-time".`,
		Example: `  tcap print run.tcap | head
  tcap print run.tcap --kind tcp --comm nginx --from 1.5s --to 2s
  tcap print run.tcap --format json --kind heap.alloc | jq .size_bytes`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if cmd.CalledAs() == "replay" && !cmd.Flags().Changed("follow-time") {
				f.followTime = true
			}
			return f.run(cmd.Context(), argv[0])
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.format, "format", "text", "`FORMAT` of the lines: text or json")
	fs.StringVarP(&f.output, "output", "o", "", "write to `FILE`")
	fs.BoolVar(&f.followTime, "follow-time", false, "print at the pace at which it happened")
	fs.BoolVar(&f.strict, "strict", false, "exit with status 3 when the capture is incomplete")
	f.filters.registerKinds(fs)
	f.filters.register(fs)
	return cmd
}

func (f *printFlags) run(ctx context.Context, path string) (err error) {
	if f.format != "text" && f.format != "json" {
		return usagef("--format %q: it can be text or json", f.format)
	}
	r, err := open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	filter, err := f.filters.filter(r)
	if err != nil {
		return err
	}
	w, closeOut, err := output(f.output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeOut()) }()
	p := printer{r: r, out: bufio.NewWriterSize(w, 1<<16), warn: os.Stderr, line: text(r)}
	if f.format == "json" {
		p.line = format.NewJSONEncoder(r).Append
	}
	if f.followTime {
		p.pace = newPace(ctx, p.out)
	}
	if err := p.events(ctx, filter); err != nil {
		return err
	}
	if !f.strict {
		return nil
	}
	return incomplete(r)
}

// A printer writes events as lines.
type printer struct {
	r    *format.Reader
	out  *bufio.Writer
	warn io.Writer
	line func(buf []byte, e *format.Event) []byte
	pace *pace // nil: as fast as it goes
	buf  []byte
}

func text(r *format.Reader) func([]byte, *format.Event) []byte {
	return func(buf []byte, e *format.Event) []byte { return format.Format(buf, r, e) }
}

func (p *printer) events(ctx context.Context, filter format.Filter) error {
	for e, err := range p.r.Events(filter) {
		if ctx.Err() != nil {
			break
		}
		var corrupt *format.CorruptError
		if errors.As(err, &corrupt) {
			if err := p.out.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(p.warn, "tcap: warning: skipped %s\n", damage(p.r, corrupt))
			continue
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if p.pace != nil {
			if err := p.pace.wait(e.Time); err != nil {
				return err
			}
		}
		p.buf = append(p.line(p.buf[:0], e), '\n')
		if _, err := p.out.Write(p.buf); err != nil {
			return err
		}
	}
	if _, clean := p.r.Trailer(); !clean {
		fmt.Fprintln(p.warn, "tcap: warning: the capture has no clean end: the recorder was killed, or the file was cut")
	}
	return p.out.Flush()
}

// damage says what is known of a part of the file that cannot be read.
func damage(r *format.Reader, c *format.CorruptError) string {
	for _, d := range r.Damage() {
		if d.Offset == c.Offset {
			return describeDamage(r, &d)
		}
	}
	return c.Error()
}

// incomplete is the error that --strict asks for.
func incomplete(r *format.Reader) error {
	s := survey(r)
	if s.complete() {
		return nil
	}
	return &exitError{exitIncomplete, errors.New("the capture is incomplete: " + s.verdict())}
}

// A pace holds lines back until their time has come.
type pace struct {
	ctx   context.Context
	out   *bufio.Writer // flushed before a wait
	begun time.Time     // when the first line came
	first int64         // its event time, ns
	timer *time.Timer
}

func newPace(ctx context.Context, out *bufio.Writer) *pace { return &pace{ctx: ctx, out: out} }

// shortWait is not worth waiting for.
const shortWait = time.Millisecond

// wait returns when an event of time t is due. When tcap is told to end it
// returns at once.
func (p *pace) wait(t int64) error {
	if p.timer == nil {
		p.begun, p.first, p.timer = time.Now(), t, time.NewTimer(0)
		<-p.timer.C
	}
	due := time.Until(p.begun.Add(time.Duration(t - p.first)))
	if due < shortWait {
		return nil
	}
	if err := p.out.Flush(); err != nil {
		return err
	}
	p.timer.Reset(due)
	select {
	case <-p.timer.C:
	case <-p.ctx.Done():
	}
	return nil
}
