package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// TestAnalyzePack: no leaks in a capture without the heap are no good news.
func TestAnalyzePack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tcp.tcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := format.NewWriter(f, format.Header{Packs: []string{"tcp"}}, format.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(format.Trailer{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	const warning = "heap was not recorded (only tcp)"
	for analysis, warned := range map[string]bool{"leaks": true, "heap": true, "tcp": false} {
		o := tcap(t, "analyze", analysis, path)
		if o.code != 0 || strings.Contains(o.stderr, warning) != warned {
			t.Errorf("analyze %s: status %d, %q on stderr; a warning: %v", analysis, o.code, o.stderr, warned)
		}
	}
}

// TestAnalyzeFormat: a format that an analysis does not have costs no report
// that was there.
func TestAnalyzeFormat(t *testing.T) {
	path, out := writeCapture(t, 10, 0), filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(out, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := tcap(t, "analyze", "tcp", path, "--format", "pprof", "-o", out); o.code != exitUsage {
		t.Errorf("status %d, want %d", o.code, exitUsage)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}
