package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/capture/symbolize"
	"github.com/tcap-dev/tcap/format"
)

func symbolizeCommand() *cobra.Command {
	var (
		dirs  []string
		out   string
		force bool
	)
	cmd := &cobra.Command{
		Use:   "symbolize FILE [--debug-dir DIR]... [-o OUT]",
		Short: "Name, and unwind, what could not be while recording",
		Long: `symbolize names frames that the recorder could not name, or gives them lines,
from debug files that are there now. It knows them by the build-ids of the
modules ("tcap info" lists those) and never fetches anything.

Stacks that were recorded with --unwind offline are unwound first, for which the
modules themselves are needed, not just their debug files. Once all are, the new
capture has no copies of stacks any more.

Below each DIR it looks for .build-id/ab/cdef.debug, for the module's path and
for its file's name, each with and without .debug, also in usr/lib/debug, where
an unpacked package has it; last at the module's own path on this machine. A file
with another build-id is refused.

Every event stays as it is, and so does what is damaged. FILE is replaced when
the new one is complete, or left alone with -o.`,
		Example: `  tcap symbolize run.tcap --debug-dir ./debug
  dpkg-deb -x prog-dbgsym.deb d && tcap symbolize run.tcap --debug-dir d -o named.tcap`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			r, err := open(argv[0])
			if err != nil {
				return err
			}
			defer r.Close()
			for _, dir := range dirs {
				if info, err := os.Stat(dir); err != nil {
					return fmt.Errorf("--debug-dir: %w", err)
				} else if !info.IsDir() {
					return usagef("--debug-dir %s: not a directory", dir)
				}
			}
			warnDamaged(r, argv[0])
			a, err := r.Amend()
			if err != nil {
				return fmt.Errorf("%s: %w", argv[0], err)
			}
			stacks, err := symbolize.Unwind(cmd.Context(), r, a, dirs)
			if err != nil {
				return err
			}
			report, err := symbolize.Run(cmd.Context(), r, a, dirs)
			if err != nil {
				return err
			}
			return conclude(report, stacks, a, argv[0], out, force)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringArrayVar(&dirs, "debug-dir", nil, "search `DIR` for debug files (repeatable); unless given, /usr/lib/debug")
	fs.StringVarP(&out, "output", "o", "", "write the new capture to `OUT`")
	fs.BoolVar(&force, "force", false, "overwrite OUT")
	return cmd
}

// conclude writes the new capture and says what was found.
func conclude(report *symbolize.Report, stacks *symbolize.Unwound, a *format.Amender, path, out string, force bool) error {
	frames, better := report.Sum()
	mismatches := explainStacks(stacks, path)
	for i := range report.Modules {
		mismatches += explainModule(&report.Modules[i])
	}
	to := out
	if to == "" {
		to = path
	}
	dropped := stacks.Stacks > 0 && !stacks.Kept
	if out != "" || better.All > 0 || stacks.Better > 0 || dropped {
		if err := rewrite(a, path, to, force || out == ""); err != nil {
			return err
		}
	}
	switch {
	case better.All > 0:
		fmt.Fprintf(os.Stderr, "tcap: %s: %s of %s better: %s got a name, %s a line\n", to, comma(better.All),
			things(frames.All, "frame"), comma(better.Named), comma(better.Lined))
	case stacks.Better > 0 || dropped: // that is told already
	case mismatches > 0:
		return fmt.Errorf("%s: nothing was named: the files that were found belong to other builds", path)
	case frames.Lined == frames.All:
		fmt.Fprintf(os.Stderr, "tcap: %s: all of %s have names and lines\n", path, things(frames.All, "frame"))
	default:
		fmt.Fprintf(os.Stderr, "tcap: %s: nothing was found that names more of %s\n", path, things(frames.All, "frame"))
	}
	return nil
}

// explainStacks says what became of the copies of stacks, and returns how many
// files were refused.
func explainStacks(u *symbolize.Unwound, path string) (refused int) {
	if u.Stacks == 0 {
		return 0
	}
	waiting := 0
	for i := range u.Missing {
		m := &u.Missing[i]
		waiting += m.Stacks
		id := "which has no build-id to be known by"
		if m.BuildID != "" {
			id = "build-id " + m.BuildID
		}
		fmt.Fprintf(os.Stderr, "tcap: %s for want of %s (%s)\n", waits(m.Stacks), escape(m.Path), escape(id))
		for _, o := range m.Others {
			fmt.Fprintf(os.Stderr, "tcap: refused for %s (build-id %s): %s\n", escape(m.Path), escape(m.BuildID), escape(o.String()))
		}
		refused += len(m.Others)
	}
	left := "and their copies dropped"
	if u.Kept {
		left = "the copies are kept"
	}
	fmt.Fprintf(os.Stderr, "tcap: %s: %s of %s unwound, %s\n", path, comma(u.Stacks-waiting), things(u.Stacks, "stack"), left)
	return refused
}

func waits(n int) string {
	if n == 1 {
		return "1 stack is not unwound"
	}
	return things(n, "stack") + " are not unwound"
}

// explainModule says why a module has frames without names or lines still, and
// returns how many files were refused.
func explainModule(m *symbolize.Module) int {
	if m.Frames.Lined+m.Better.Lined == m.Frames.All {
		return 0
	}
	if errors.Is(m.Err, symbol.ErrNotFound) || m.Err == nil {
		for _, o := range m.Others {
			fmt.Fprintf(os.Stderr, "tcap: refused for %s (build-id %s): %s\n", escape(m.Path), escape(m.BuildID), escape(o.String()))
		}
		return len(m.Others)
	}
	fmt.Fprintf(os.Stderr, "tcap: %s\n", printable(m.Err.Error()))
	return 0
}

// rewrite writes the amended capture beside its place, then puts it there: a
// reader sees the old file or the new one. The mode and owner are those of the
// capture that was read.
func rewrite(a *format.Amender, from, to string, replace bool) (err error) {
	there, err := os.Lstat(to)
	switch {
	case err != nil: // nothing there, or what makes the file will tell
	case !replace:
		return fmt.Errorf("write %s: the file is there already; --force overwrites it", to)
	case to != from && there.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("write %s: it is a symbolic link, which --force does not follow; name the file itself", to)
	}
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("stat capture: %w", err)
	}
	target := to
	if real, err := filepath.EvalSymlinks(to); err == nil {
		target = real // a link stays one
	}
	f, err := os.CreateTemp(filepath.Dir(target), ".tcap-*")
	if err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write capture %s: %w", to, err), os.Remove(f.Name()))
		}
	}()
	_, err = a.WriteTo(io.Writer(f))
	if err == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && err == nil && os.Geteuid() == 0 {
		err = f.Chown(int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}
