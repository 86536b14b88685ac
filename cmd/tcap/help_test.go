package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// TestHelpFits: help fits 80 columns, but for the line of the usage and examples of two commands.
func TestHelpFits(t *testing.T) {
	verbs := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		verbs++
		var help bytes.Buffer
		cmd.SetOut(&help)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(help.String()) {
			line = strings.TrimSuffix(line, "\n")
			if n := utf8.RuneCountInString(line); n > 80 && !strings.HasSuffix(line, " [flags]") && !strings.Contains(line, " && ") {
				t.Errorf("%s: %d columns: %q", cmd.CommandPath(), n, line)
			}
		}
		for _, c := range cmd.Commands() {
			visit(c)
		}
	}
	visit(rootCommand())
	if verbs < 20 {
		t.Errorf("only %d verbs were looked at", verbs)
	}
}
