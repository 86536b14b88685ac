package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/declare"
)

func probesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "probes",
		Short: "List the places that can be probed; explain where a probe goes",
		Long: `probes shows where tcap attaches. Places are named as bpftrace does:
uprobe:PATH:FUNCTION, usdt:PATH:PROVIDER:NAME, tracepoint:CATEGORY:NAME,
kprobe:FUNCTION. docs/probes.md tells what can be read there.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) == 0 {
				return usagef("probes: say list or explain; see tcap probes --help")
			}
			return usagef("probes %s: there are list and explain", a[0])
		},
	}
	cmd.AddCommand(probesListCommand(), probesExplainCommand())
	return cmd
}

func probesListCommand() *cobra.Command {
	var pid int
	cmd := &cobra.Command{
		Use:   "list [GLOB]",
		Short: "List places that can be probed",
		Long: `list names the places that match a pattern as uprobe:PATH:GLOB,
usdt:PATH:GLOB:GLOB, tracepoint:GLOB:GLOB or kprobe:GLOB. C++ names match as
people write them, too. Without a pattern, or with one of another kind, it lists
the places in the kernel that "tcap record" uses by itself.

With -p it lists the allocator functions of a process, where tcap would probe
them, and what the instruction there costs: an emulated one is cheap.`,
		Example: `  tcap probes list
  tcap probes list 'tp_btf:tcp_*'
  tcap probes list 'uprobe:/usr/sbin/nginx:ngx_http_*'
  tcap probes list 'usdt:/usr/bin/python3:*:*'
  tcap probes list 'tracepoint:sched:*'
  tcap probes list -p $(pidof redis-server)`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			out := bufio.NewWriter(os.Stdout)
			var err error
			switch {
			case cmd.Flags().Changed("pid") && len(a) > 0:
				return usagef("probes list: either -p PID or a pattern")
			case cmd.Flags().Changed("pid"):
				err = listAllocators(out, pid)
			case len(a) > 0 && declare.IsDeclaration(a[0]):
				d, perr := declare.Parse(a[0])
				if perr != nil {
					return usage(declarationError(perr))
				}
				err = capture.ListPlaces(out, d)
			default:
				err = listHooks(out, a)
			}
			return errors.Join(err, out.Flush())
		},
	}
	cmd.Flags().IntVarP(&pid, "pid", "p", 0, "list the allocator functions of process `PID`")
	return cmd
}

// listHooks lists the places in the kernel, those that match the pattern if
// there is one.
func listHooks(w io.Writer, pattern []string) error {
	hooks, err := capture.Hooks()
	if err != nil {
		return err
	}
	found := false
	for _, h := range hooks {
		if len(pattern) > 0 {
			ok, err := path.Match(pattern[0], h)
			if err != nil {
				return usagef("probes list %s: %w", pattern[0], err)
			}
			if !ok {
				continue
			}
		}
		found = true
		fmt.Fprintln(w, h)
	}
	if !found {
		return fmt.Errorf("probes list %s: nothing matches; functions of a file are listed by uprobe:PATH:GLOB", pattern[0])
	}
	return nil
}

func probesExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain PROBE",
		Short: "Say where a probe goes, and why",
		Long: `explain disassembles the start of a function and shows the instruction that
tcap would probe. The kernel emulates some instructions inside the trap; any
other must be executed from a copy, which costs a second trap.

Of a mark (usdt:) it tells where its arguments are, of a tracepoint its fields, of
another row of "tcap probes list" what it is for. The declaration may have
arguments and a filter, which are checked.`,
		Example: `  tcap probes explain uprobe:/lib/x86_64-linux-gnu/libc.so.6:free
  tcap probes explain tracepoint:sched:sched_switch`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			out := bufio.NewWriter(os.Stdout)
			if hooks, err := capture.Hooks(); err == nil && !declare.IsDeclaration(a[0]) && slices.Contains(hooks, a[0]) {
				explainHook(out, a[0])
				return out.Flush()
			}
			d, err := declare.Parse(a[0])
			if err != nil {
				return usage(declarationError(err))
			}
			return errors.Join(capture.ExplainPlaces(out, d), out.Flush())
		},
	}
}

// explainHook tells of a place in the kernel that is tcap's own, and no probe to declare.
func explainHook(w io.Writer, hook string) {
	kind, place, _ := strings.Cut(hook, ":")
	fmt.Fprintln(w, hook)
	switch kind {
	case "iter":
		fmt.Fprintln(w, "  an iterator, which tcap record reads when it begins: what was there before.")
	default:
		fmt.Fprintf(w, "  a tracepoint by the types of its arguments, at which tcap record attaches by itself.\n"+
			"  In declarations, tracepoints are tracepoint:CATEGORY:NAME; this one is listed by\n"+
			"  tcap probes list 'tracepoint:*:%s', if it is an event as well.\n", place)
	}
}
