package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/capture/pack"
)

type recordFlags struct {
	output    string
	force     bool
	pids      []int
	comms     []string
	events    []string
	duration  time.Duration
	maxSize   string
	stackSize string
	ringSize  string
	stacks    string
	appStacks bool // --stacks was given
	named     bool // --comm was given
	unwind    string
	kernel    bool
	debug     []string
	ready     int
	quiet     bool
}

func recordCommand() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use:   "record -o FILE [-p PID]... [--comm NAME]... [-e PACK|PROBE]... [-- CMD ARGS...]",
		Short: "Record a program, a process, or the machine's TCP into a capture",
		Long: `record writes a capture until the command exits, the last target is gone, the
duration or the size is reached, or Ctrl-C. With a command it returns the
command's exit status.

Without a target it records the TCP connections of the whole machine. The heap
needs a target, for every call to an allocator costs a trap; only the targets
and their children pay for it. An application that tcap has a pack for (nginx,
redis, mysql, ...) is recorded, too, if it is a target or, without one, runs;
-e none leaves that out, and -e with anything else records just that.`,
		Example: `  tcap record -o run.tcap -- ./server --port 8080
  tcap record -o run.tcap -p $(pidof nginx) -d 30s
  tcap record -o tcp.tcap -d 1m`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return usagef("unexpected argument %q; a command to record goes after --", args[0])
			}
			if len(args) == 0 && cmd.ArgsLenAtDash() == 0 {
				return usagef("no command follows --; leave it out to record the whole machine")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("duration") && f.duration <= 0 {
				return usagef("record: -d %s: a duration is positive", f.duration)
			}
			f.appStacks, f.named = cmd.Flags().Changed("stacks"), cmd.Flags().Changed("comm")
			return record(cmd.Context(), &f, args)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVarP(&f.output, "output", "o", "", "write the capture to `FILE`")
	fl.IntSliceVarP(&f.pids, "pid", "p", nil, "follow process `PID` and its children, those it has included (repeatable)")
	fl.StringSliceVar(&f.comms, "comm", nil, "follow processes called `NAME`, now and when they appear (repeatable)")
	fl.StringArrayVarP(&f.events, "event", "e", nil, "record only these: a `PACK` ("+strings.Join(append(capture.PackNames(), pack.Names()...), ", ")+"), a pack's file, or a declared probe, uprobe:PATH:FUNCTION(...) (repeatable)")
	fl.DurationVarP(&f.duration, "duration", "d", 0, "end after this `TIME`, as in 30s")
	fl.StringVar(&f.maxSize, "max-size", "", "end when the file has this `SIZE`, as in 1GiB")
	fl.StringVar(&f.ringSize, "ring-size", "", "`SIZE` of the room for events on their way from the kernel, as in 64MiB")
	fl.StringVar(&f.stacks, "stacks", capture.StacksAuto, "`HOW` stacks are taken: dwarf (by call frame information), fp (by frame pointers), none, or auto: dwarf where it works; when given, at the probes of packs as well")
	fl.StringVar(&f.stackSize, "stack-size", "", "at most `SIZE` of a stack is copied to be unwound: 256 to 248KiB")
	fl.StringVar(&f.unwind, "unwind", capture.UnwindOnline, "`WHEN` stacks are unwound: online, while recording, or offline, by tcap symbolize later: until then FILE holds copies of the program's stacks, and the secrets on them")
	fl.BoolVar(&f.kernel, "kernel-stacks", false, "take the kernel's stack at TCP state changes, retransmissions and resets")
	fl.StringArrayVar(&f.debug, "debug-dir", nil, "search `DIR` for debug files, before /usr/lib/debug (repeatable)")
	fl.BoolVar(&f.force, "force", false, "overwrite FILE")
	fl.IntVar(&f.ready, "ready-fd", 0, "write a line to descriptor `N` and close it when recording has begun")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "say neither that it begins nor how it goes or went")
	return cmd
}

func (f *recordFlags) options(command []string) (capture.Options, error) {
	o := capture.Options{
		Output: f.output, Force: f.force, Pids: f.pids, Comms: f.comms, Command: command,
		Duration: f.duration, Stacks: f.stacks, AppStacks: f.appStacks && f.stacks != capture.StacksNone, KernelStacks: f.kernel, Unwind: f.unwind, DebugDirs: f.debug, Version: version + " (" + commit + ")", Args: os.Args, Stderr: os.Stderr,
	}
	if f.output == "" {
		return o, usagef("record: say where the capture goes: -o FILE")
	}
	if f.output == "-" {
		return o, usagef("record: -o -: a capture goes to a file; standard output is the command's")
	}
	for _, p := range f.pids {
		if p <= 0 {
			return o, usagef("record: -p %d: a pid is positive", p)
		}
	}
	if f.named && (len(f.comms) == 0 || slices.Contains(f.comms, "")) {
		return o, usagef("record: --comm: a name is not empty")
	}
	if err := f.wanted(&o); err != nil {
		return o, err
	}
	var err error
	if o.MaxSize, err = size("--max-size", f.maxSize); err != nil {
		return o, err
	}
	stack, err := size("--stack-size", f.stackSize)
	if err != nil {
		return o, err
	}
	o.StackSize = int(stack)
	ring, err := size("--ring-size", f.ringSize)
	if err != nil {
		return o, err
	}
	if ring > 1<<31 {
		return o, usagef("--ring-size %s: it can be at most 2GiB", f.ringSize)
	}
	o.RingSize = int(ring)
	return o, nil
}

// wanted takes -e apart: names of packs, which commas separate, and declarations
// of probes, which have commas of their own.
func (f *recordFlags) wanted(o *capture.Options) error {
	for _, e := range f.events {
		if !declare.IsDeclaration(e) {
			if err := addPacks(o, e); err != nil {
				return err
			}
			continue
		}
		d, err := declare.Parse(e)
		if err != nil {
			return usage(declarationError(err))
		}
		o.Probes = append(o.Probes, capture.Probe{Decl: d})
	}
	return nil
}

// addPacks takes names of packs, which commas separate, and files of packs.
func addPacks(o *capture.Options, words string) error {
	for word := range strings.SplitSeq(words, ",") {
		if word == "none" {
			o.NoApps = true
			continue
		}
		if slices.Contains(capture.PackNames(), word) {
			o.Packs = append(o.Packs, word)
			continue
		}
		p, err := pack.Load(word)
		if errors.Is(err, pack.ErrNoPack) {
			err = fmt.Errorf("%w, %s", err, strings.Join(capture.PackNames(), ", "))
		}
		if err != nil {
			return usage(err)
		}
		o.Apps = append(o.Apps, p)
	}
	return nil
}

// declarationError shows where in a declaration the mistake is.
func declarationError(err error) error {
	if e := declare.ErrorOf(err); e != nil {
		return fmt.Errorf("%w\n  %s", err, strings.ReplaceAll(e.Show(), "\n", "\n  "))
	}
	return err
}

func size(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > 1<<62 {
		return 0, usagef("%s %q: not a size; say 512MiB or 1GiB", flag, s)
	}
	return int64(n), nil
}

func record(ctx context.Context, f *recordFlags, command []string) error {
	o, err := f.options(command)
	if err != nil {
		return err
	}
	if o.Ready, err = readiness(f.ready); err != nil {
		return err
	}
	o.Announce = !f.quiet
	interrupts, stop := watchInterrupts(len(command) > 0)
	defer stop()
	o.Interrupts = interrupts
	// The terminal of a command is the command's: its output would run into
	// the line of progress.
	tty := term.IsTerminal(int(os.Stderr.Fd())) && !f.quiet && len(command) == 0
	if tty {
		o.Progress = func(s capture.Summary) { progress(os.Stderr, s) }
	}
	sum, err := capture.Record(ctx, o)
	if tty {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
	if sum != nil && !f.quiet {
		summarize(os.Stderr, sum)
	}
	if err != nil {
		return recordError(err)
	}
	if sum.ExitStatus != 0 {
		return &exitError{sum.ExitStatus, nil}
	}
	return nil
}

// recordError gives a command that could not be run the exit status of env(1).
func recordError(err error) error {
	var option *capture.OptionError
	if errors.As(err, &option) {
		return usagef("record: %w; see tcap record --help", err)
	}
	var ce *capture.CommandError
	if !errors.As(err, &ce) {
		return err
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return &exitError{exitNotFound, err}
	}
	return &exitError{exitNotRun, err}
}

// watchInterrupts delivers the signals that end a recording. Those that a
// terminal's keys send went to the command, too; any other came to tcap alone
// and is to be handed on.
//
// A signal that tcap was started to ignore, as by nohup, stays ignored, for the
// command inherits that. Without a command SIGINT counts all the same: a
// shell's background jobs ignore it, and it is how a recording is stopped.
func watchInterrupts(command bool) (<-chan capture.Interrupt, func()) {
	sigs := make(chan os.Signal, 4)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) || s == syscall.SIGINT && !command {
			signal.Notify(sigs, s)
		}
	}
	out := make(chan capture.Interrupt, 4)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-sigs:
				select {
				case out <- capture.Interrupt{Signal: handOn(s.(syscall.Signal))}:
				default: // two are enough
				}
			case <-done:
				return
			}
		}
	}()
	return out, func() { signal.Stop(sigs); close(done) }
}

// handOn is the signal to send to the command, 0 when the terminal has sent it.
func handOn(s syscall.Signal) syscall.Signal {
	if (s == syscall.SIGINT || s == syscall.SIGQUIT) && inForeground() {
		return 0
	}
	return s
}

func progress(w io.Writer, s capture.Summary) {
	fmt.Fprintf(w, "\r\x1b[Ktcap: %s  %s  %s  %s", s.Duration.Round(time.Second), things(s.Events, "event"), byteSize(s.Bytes), lost(s.Lost))
}

// summarize is the line that every recording ends with.
func summarize(w io.Writer, s *capture.Summary) {
	per := ""
	if s.Events > 0 {
		per = fmt.Sprintf(" (%.2f bytes per event)", float64(s.Bytes)/float64(s.Events))
	}
	missing := lost(s.Lost)
	if s.Unwritten > 0 {
		missing += ", " + humanize.Comma(int64(s.Unwritten)) + " NOT WRITTEN"
	}
	fmt.Fprintf(w, "tcap: %s: %s in %s, %s, %s%s; %s\n", s.Path, things(s.Events, "event"),
		s.Duration.Round(time.Millisecond), missing, byteSize(s.Bytes), per, s.Reason)
	if s.Running != 0 {
		fmt.Fprintf(w, "tcap: the command goes on as pid %d\n", s.Running)
	}
}

func lost(n uint64) string {
	if n == 0 {
		return "none lost"
	}
	return humanize.Comma(int64(n)) + " LOST (a larger --ring-size helps)"
}

func byteSize(n int64) string { return humanize.IBytes(uint64(n)) }
