package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/format"
)

func verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Check every byte of a capture",
		Long: `verify reads the whole capture and names, with its offset, each part that
cannot be read and each thing that contradicts another. The exit status is 1
when there is any.`,
		Example: `  tcap verify run.tcap`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			r, err := open(argv[0])
			if err != nil {
				return err
			}
			defer r.Close()
			return verify(r, argv[0])
		},
	}
}

func verify(r *format.Reader, path string) error {
	var events uint64
	for res, err := range r.Batches(format.Filter{}, nil) {
		var corrupt *format.CorruptError
		if err != nil && !errors.As(err, &corrupt) {
			return fmt.Errorf("verify %s: %w", path, err)
		}
		if err == nil {
			events += uint64(res.Batch.Len())
		}
	}
	damage := r.Damage()
	out := bufio.NewWriter(os.Stdout)
	for i := range damage {
		fmt.Fprintln(out, describeDamage(r, &damage[i]))
	}
	if n := len(damage); n > 0 {
		if err := out.Flush(); err != nil {
			return err
		}
		return fmt.Errorf("verify %s: %s", path, english.Plural(n, "error", ""))
	}
	fmt.Fprintf(out, "ok: %s blocks, %s events, %s\n", comma(len(r.Blocks())), humanize.Comma(int64(events)), humanize.IBytes(uint64(r.Size())))
	return out.Flush()
}
