package main

import (
	"errors"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/analyze"
)

func diffCommand() *cobra.Command {
	var (
		filters filterFlags
		format  string
		out     string
		strict  bool
		wide    bool
		differ  *analyze.Differ
	)
	cmd := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Say by which stacks the heap of two captures differs",
		Long: `diff compares what leaked, or what --cost names, in two captures of a program,
stack by stack, the greatest growth first.

Stacks are the same when their functions, files and lines are; addresses play no
part, nor do the directories of the build or the name of the program's file.
A frame without a name is known by module and offset. Where lines moved between
two builds, --ignore-lines compares functions, and --group-by function sums up.`,
		Example: `  tcap diff before.tcap after.tcap
  tcap diff v1.tcap v2.tcap --cost peak --group-by function
  tcap diff a.tcap b.tcap --format pprof -o d.pb.gz && go tool pprof -top d.pb.gz`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			before, err := open(argv[0])
			if err != nil {
				return err
			}
			defer before.Close()
			after, err := open(argv[1])
			if err != nil {
				return err
			}
			defer after.Close()
			fb, err := filters.filter(before)
			if err != nil {
				return err
			}
			fa, err := filters.filter(after)
			if err != nil {
				return err
			}
			warnUnrecorded(before, "heap", "diff")
			warnUnrecorded(after, "heap", "diff")
			debug.SetGCPercent(50) // as for analyze
			res, err := differ.Run(cmd.Context(), before, after, fb, fa)
			if err != nil {
				return err
			}
			if err := render(res, format, out, wide); err != nil {
				return err
			}
			return strictly(strict, res)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	differ = analyze.NewDiffer(fs)
	fs.StringVar(&format, "format", "text", "`FORMAT` of the report: text, json, csv or pprof")
	fs.StringVarP(&out, "output", "o", "", "write the report to `FILE`")
	registerWide(fs, &wide)
	fs.BoolVar(&strict, "strict", false, "exit with status 3 when one of the captures is incomplete")
	filters.registerFree(fs)
	return cmd
}

// strictly is the error of --strict, if the answer stands on an incomplete capture.
func strictly(strict bool, res analyze.Result) error {
	if c := res.Completeness(); strict && !c.Complete() {
		return &exitError{exitIncomplete, errors.New("the capture is incomplete: " + strings.TrimPrefix(c.Line(), "INCOMPLETE: "))}
	}
	return nil
}
