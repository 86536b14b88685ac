package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/capture/doctor"
)

func doctorCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can record, and what to change",
		Long: `doctor tries what a recording needs: it loads tcap's programs and attaches
empty ones to each kind of hook, and detaches them at once. What is limited or
missing is listed with what that costs a recording and what to do about it.

The exit status is 0 when this machine and this user can record, else 1.`,
		Example: `  tcap doctor
  sudo tcap doctor --format json | jq '.checks[] | select(.state != "ok")'`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if format != "text" && format != "json" {
				return usagef("--format %q: it can be text or json", format)
			}
			rep := doctor.Examine()
			buf := bufio.NewWriter(os.Stdout)
			var err error
			if format == "json" {
				enc := json.NewEncoder(buf)
				enc.SetIndent("", "  ")
				err = enc.Encode(struct {
					CanRecord bool `json:"can_record"`
					*doctor.Report
				}{rep.CanRecord(), rep})
			} else {
				err = printReport(buf, rep, width(os.Stdout))
			}
			if err := errors.Join(err, buf.Flush()); err != nil {
				return err
			}
			if !rep.CanRecord() {
				return &exitError{exitFailed, nil}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "`FORMAT` of the report: text or json")
	return cmd
}

func printReport(w io.Writer, rep *doctor.Report, width int) error {
	t := export.NewText(w, width)
	tab := export.Table{Head: []string{"CHECK", "STATE", "FOUND"}, Right: make([]bool, 3), Wrap: true}
	said := map[string]string{} // which check gave the advice first
	for _, row := range rep.Rows {
		if first := said[row.Fix]; first != "" {
			row.Fix = "as for " + first
		} else if row.Fix != "" {
			said[row.Fix] = row.Check
		}
		tab.Rows = append(tab.Rows, []string{row.Check, string(row.State), escape(row.Found)})
		for _, text := range []string{prefixed("Cost: ", row.Cost), prefixed("Do: ", row.Fix)} {
			if text != "" {
				tab.Rows = append(tab.Rows, []string{"", "", escape(text)})
			}
		}
	}
	t.Table(tab, "")
	t.Line("")
	says := "tcap CANNOT RECORD here as this user. Captures can be read and analyzed."
	switch {
	case rep.Heap && rep.TCP:
		says = "tcap can record heap and TCP here."
	case rep.TCP:
		says = "tcap can record TCP here, but not the heap."
	case rep.Heap:
		says = "tcap can record the heap here, but not TCP."
	}
	t.Para(says, "  ")
	return t.Flush()
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
