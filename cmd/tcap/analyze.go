package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze"
	"github.com/tcap-dev/tcap/format"
)

func analyzeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "analyze ANALYSIS FILE",
		Short: "Answer a question about a capture",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return usagef("analyze %s: no such analysis; there are %s", a[0], strings.Join(analysisNames(), ", "))
		},
	}
	for _, a := range analyze.List() {
		cmd.AddCommand(analysisCommand(a))
	}
	return cmd
}

func analysisNames() []string {
	var names []string
	for _, a := range analyze.List() {
		names = append(names, a.Name)
	}
	return names
}

func analysisCommand(a analyze.Analyzer) *cobra.Command {
	var (
		filters filterFlags
		form    string
		out     string
		strict  bool
		wide    bool
		runner  analyze.Runner
	)
	cmd := &cobra.Command{
		Use:   a.Name + " FILE",
		Short: a.Short,
		Long:  a.Long,
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			r, err := open(argv[0])
			if err != nil {
				return err
			}
			defer r.Close()
			if err := sensible(cmd.Flags()); err != nil {
				return err
			}
			f, err := filters.filter(r)
			if err != nil {
				return err
			}
			warnUnrecorded(r, a.Pack, "analyze "+a.Name)
			hugePages()
			// Decoded blocks are large and few: collecting twice as often costs
			// nothing measurable and takes a quarter off the peak memory.
			debug.SetGCPercent(50)
			res, err := runner.Run(cmd.Context(), r, f)
			if err != nil {
				return err
			}
			if err := render(res, form, out, wide); err != nil {
				return err
			}
			return strictly(strict, res)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	runner = a.New(fs)
	fs.StringVar(&form, "format", "text", "`FORMAT` of the report: text, json, csv, folded or pprof, as far as the analysis has it")
	fs.StringVarP(&out, "output", "o", "", "write the report to `FILE`")
	registerWide(fs, &wide)
	fs.BoolVar(&strict, "strict", false, "exit with status 3 when the answer stands on an incomplete capture")
	filters.registerFree(fs)
	return cmd
}

// sensible refuses numbers that no flag of an analysis can mean, and flags of which
// one says what the other denies.
func sensible(fs *pflag.FlagSet) error {
	for _, pair := range exclusive {
		if fs.Changed(pair[0]) && fs.Changed(pair[1]) {
			return usagef("--%s and --%s: only one of them", pair[0], pair[1])
		}
	}
	var err error
	fs.Visit(func(f *pflag.Flag) {
		wrong := false
		switch f.Value.Type() {
		case "duration":
			v, _ := fs.GetDuration(f.Name)
			wrong = v < 0
		case "int":
			v, _ := fs.GetInt(f.Name)
			wrong = v < 0
		case "float64":
			v, _ := fs.GetFloat64(f.Name)
			wrong = !(v >= 0 && v <= 100) // percent
		}
		if wrong && err == nil {
			err = usagef("--%s %s: out of range", f.Name, f.Value)
		}
	})
	return err
}

var exclusive = [][2]string{{"tree", "caller"}, {"rows", "tree"}, {"rows", "caller"}, {"rows", "by"}, {"summary", "stacks"}, {"summary", "rows"}}

// warnUnrecorded says so when a capture has nothing of what a verb is about.
func warnUnrecorded(r *format.Reader, pack, verb string) {
	if packs := r.Header().Packs; len(packs) > 0 && pack != "" && !slices.Contains(packs, pack) {
		fmt.Fprintf(os.Stderr, "tcap: warning: %s was not recorded (only %s): %s has nothing to go by\n",
			pack, strings.Join(packs, ", "), verb)
	}
}

// registerWide registers the flag of all reports that have tables.
func registerWide(fs *pflag.FlagSet, wide *bool) {
	fs.BoolVarP(wide, "wide", "w", false, "every column and every name in full, whatever the terminal's width")
}

func render(res analyze.Result, format, out string, wide bool) error {
	if !slices.Contains(analyze.Formats(res), format) { // before -o empties a file
		if err := analyze.Render(io.Discard, res, format, 0); err != nil {
			return usage(err)
		}
	}
	w, closeOut, err := output(out)
	if err != nil {
		return err
	}
	buf := bufio.NewWriterSize(w, 1<<16)
	err = analyze.Render(buf, res, format, columns(w, wide))
	return errors.Join(err, buf.Flush(), closeOut())
}
