package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes. Scripts depend on them.
const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitIncomplete = 3
	exitNotRun     = 126 // the command to record is there, but cannot be run
	exitNotFound   = 127 // it is not there
)

// An exitError ends tcap with a code; err is printed unless it is nil.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usage(err error) error { return &exitError{exitUsage, err} }

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// commands lists the verbs. Adding one is adding a file and a line here.
func commands() []*cobra.Command {
	return []*cobra.Command{
		recordCommand(),
		infoCommand(),
		printCommand(),
		analyzeCommand(),
		diffCommand(),
		symbolizeCommand(),
		redactCommand(),
		verifyCommand(),
		probesCommand(),
		doctorCommand(),
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tcap",
		Short: "Record what programs and the kernel did; ask questions later, anywhere.",
		Long: `tcap records heap calls, TCP connections and process events into one small file,
and answers questions about it later, on any machine:

  tcap record -o run.tcap -p $(pidof myserver)
  tcap analyze leaks run.tcap
  tcap analyze tcp run.tcap`,
		Version:       version + " (" + commit + ")",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error { // no verb
			cmd.SetOut(os.Stderr)
			return errors.Join(cmd.Help(), &exitError{exitUsage, nil})
		},
	}
	fitHelp(root)
	root.SetVersionTemplate("tcap {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s; see %s --help", plain(err), cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(commands()...)
	return root
}

// fitHelp makes help fit the terminal.
func fitHelp(root *cobra.Command) {
	columns := width(os.Stdout)
	cobra.AddTemplateFunc("flags", func(fs *pflag.FlagSet) string { return fs.FlagUsagesWrapped(columns) })
	cobra.AddTemplateFunc("fill", func(s string) string { return fill(s, columns) })
	usage := root.UsageTemplate()
	for _, of := range []string{".LocalFlags", ".InheritedFlags"} {
		usage = strings.ReplaceAll(usage, of+".FlagUsages", "flags "+of)
	}
	root.SetUsageTemplate(usage)
	root.SetHelpTemplate(strings.ReplaceAll(root.HelpTemplate(), ". | trimTrailingWhitespaces", "fill ."))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	help := &sticky{w: os.Stdout}
	root.SetOut(help)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = help.err
	}
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{exitFailed, err}
		if isUsage(err) {
			exit.code = exitUsage
		}
	}
	if errors.Is(err, syscall.EPIPE) { // the reader has seen enough
		return exitOK
	}
	if exit.err != nil {
		for _, line := range strings.Split(printable(exit.err.Error()), "\n") {
			if line = strings.TrimRight(strings.ReplaceAll(line, "\t", "  "), " "); line != "" {
				fmt.Fprintf(os.Stderr, "tcap: %s\n", line)
			}
		}
	}
	return exit.code
}

// A sticky writer keeps its error, for cobra asks nothing of what it writes help to.
type sticky struct {
	w   io.Writer
	err error
}

func (s *sticky) Write(p []byte) (int, error) {
	if s.err == nil {
		_, s.err = s.w.Write(p)
	}
	return len(p), nil
}

// plain is a flag's error without the name of the Go function that found it.
func plain(err error) string {
	var num *strconv.NumError
	if !errors.As(err, &num) {
		return strings.Replace(err.Error(), "time: invalid duration", "say it as 500ms or 10s, not", 1)
	}
	return strings.Replace(err.Error(), num.Error(), fmt.Sprintf("%q is no number, or too large", num.Num), 1)
}

// isUsage tells cobra's own complaints, which have no type, from failures.
func isUsage(err error) bool {
	s := err.Error()
	for _, p := range []string{"unknown command", "required flag", "accepts ", "requires at least"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// printable makes text from outside safe for a terminal, and keeps its lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0) {
			return '�'
		}
		return r
	}, s)
}

// args makes a positional-argument check of cobra's a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		err := check(cmd, a)
		if err == nil {
			return nil
		}
		_, want, some := strings.Cut(cmd.Use, " ")
		if !some {
			want = "no arguments"
		}
		return usagef("%s: it takes %s, not %s; see %s --help", cmd.Name(), want, things(len(a), "argument"), cmd.CommandPath())
	}
}
