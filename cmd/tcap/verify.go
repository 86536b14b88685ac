package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/format"
)

func verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Check every byte of a capture",
		Long: `verify reads the whole capture and holds it against all that the format
promises, which is more than a reader needs: checksums, counts, the order of
events, references to names, and frees of blocks that live. Each finding is a
line with its offset. The exit status is 1 when there is any.`,
		Example: `  tcap verify run.tcap`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
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
	findings, err := r.Validate()
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	out := bufio.NewWriter(os.Stdout)
	for _, f := range findings {
		fmt.Fprintln(out, escape(f.String()))
	}
	if len(findings) == 0 {
		var events uint64
		for _, b := range r.Blocks() {
			events += uint64(b.Events)
		}
		fmt.Fprintf(out, "ok: %s, %s, %s\n", things(len(r.Blocks()), "block"), things(events, "event"), humanize.IBytes(uint64(r.Size())))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if n := len(findings); n > 0 {
		return fmt.Errorf("verify %s: %s", path, things(min(n, format.MaxFindings), "error"))
	}
	return nil
}
