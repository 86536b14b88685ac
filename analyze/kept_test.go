package analyze

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

// TestKeptCaptures opens real recordings of every version of the format, made
// on a machine and of programs that are long gone, and wants of each analysis the
// report that it gave when the recording was new.
func TestKeptCaptures(t *testing.T) {
	files, err := filepath.Glob("../testdata/captures/*.tcap")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".tcap"), func(t *testing.T) {
			r, err := format.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			findings, err := r.Validate()
			if err != nil || len(findings) > 0 {
				t.Errorf("not valid: %v, %v", findings, err)
			}
			for _, a := range List() {
				res, err := a.New(pflag.NewFlagSet(a.Name, pflag.ContinueOnError)).Run(context.Background(), r, format.Filter{})
				if err != nil {
					t.Fatalf("%s: %v", a.Name, err)
				}
				var text bytes.Buffer
				if err := Render(&text, res, "text", 80); err != nil {
					t.Fatalf("%s: %v", a.Name, err)
				}
				tracetest.Golden(t, strings.TrimSuffix(file, ".tcap")+"."+a.Name+".txt", text.Bytes())
			}
		})
	}
}
