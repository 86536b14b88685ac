package main

import (
	"fmt"
	"os"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/format"
)

func redactCommand() *cobra.Command {
	var (
		out   string
		force bool
	)
	cmd := &cobra.Command{
		Use:   "redact FILE -o OUT",
		Short: "Take out of a capture what the programs kept to themselves",
		Long: `redact writes a capture without what is likely to be private: copies of stacks
(of --unwind offline), the texts among the arguments of calls (types str and buf:
queries, keys; their lengths stay), command lines but for the program's name, the
machine's name and its boot id.

All else stays, and so does every report on it: events, times and numbers,
names of programs, threads, files and functions, and network addresses. A part
of the file that is damaged is left out, and what was in it is told to be missing.
FILE stays as it is.`,
		Example: `  tcap redact run.tcap -o public.tcap`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			if out == "" {
				return usagef("redact: say where the redacted capture goes: -o OUT")
			}
			return redact(argv[0], out, force)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&out, "output", "o", "", "write the redacted capture to `OUT`")
	fs.BoolVar(&force, "force", false, "overwrite OUT")
	return cmd
}

func redact(path, out string, force bool) error {
	r, err := open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	a, err := r.Amend()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	warnDamaged(r, path)
	what := a.Redact()
	if err := a.CountEnds(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := rewrite(a, path, out, force); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "tcap: %s: taken out: %s\n", out, taken(what))
	return nil
}

// taken says what was taken out.
func taken(what *format.Redacted) string {
	text := fmt.Sprintf("%s of stacks, %s (%s), command lines and the machine's name",
		humanize.IBytes(uint64(what.SnapshotBytes)), things(what.Texts, "text"), humanize.IBytes(what.TextBytes))
	if what.Left > 0 {
		text += ", and " + things(what.Left, "block") + " that cannot be read"
	}
	return text
}
