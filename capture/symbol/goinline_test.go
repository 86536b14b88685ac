package symbol

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// stack is frames as testdata/inlined prints them, for which the runtime leaves out
// what is in brackets.
func stack(frames []Frame) string {
	var parts []string
	for _, f := range frames {
		name := f.Function
		if i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); i >= 0 && j > i {
			name = name[:i] + "[...]" + name[j+1:]
		}
		parts = append(parts, fmt.Sprintf("%s %s %d", name, f.File, f.Line))
	}
	return strings.Join(parts, " ")
}

// TestGoInlined compares a stripped Go program with what its own runtime says: whole
// chains of inlined calls, and the innermost call all over the program; also one of the
// C linker, in which the start-up code comes before Go's.
func TestGoInlined(t *testing.T) {
	for _, c := range []struct{ name, cgo, mode, flags string }{
		{"exe", "0", "exe", "-s -w"}, {"pie", "0", "pie", "-s -w"}, {"C linker", "1", "exe", "-s -w -linkmode=external"},
		{"C linker, pie", "1", "pie", "-s -w -linkmode=external"},
	} {
		t.Run(c.name, func(t *testing.T) {
			prog := filepath.Join(t.TempDir(), "prog")
			run(t, "testdata/inlined", "env", "CC=gcc", "CGO_ENABLED="+c.cgo, "go", "build", "-buildmode="+c.mode, "-ldflags="+c.flags, "-o", prog, "main.go")
			out, err := exec.Command(prog).Output()
			if err != nil {
				t.Fatal(err)
			}
			m := open(t, newResolver(t), prog)
			chains, longest, addresses, inlined, wrong := 0, 0, 0, 0, 0
			for line := range bytes.Lines(out) {
				kind, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
				number, want, _ := strings.Cut(rest, " ")
				offset, err := strconv.ParseUint(number, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				frames := m.Resolve(offset, true)
				got := stack(frames)
				switch kind {
				case "calls":
					chains++
					longest = max(longest, len(frames))
				case "at":
					addresses++
					if got = stack(frames[:1]); len(frames) > 1 {
						inlined++
					}
				}
				if got != want {
					if wrong++; wrong <= 5 {
						t.Errorf("%#x:\n got %s\nwant %s", offset, got, want)
					}
				}
				for i, f := range frames {
					if f.Inlined != (i < len(frames)-1) || f.Offset != frames[0].Offset {
						t.Errorf("%#x: %+v", offset, frames)
					}
				}
			}
			if chains != 5 || longest != 4 || addresses < 1000 || inlined < addresses/20 {
				t.Errorf("%d chains, of at most %d calls; %d addresses, %d of them in inlined calls", chains, longest, addresses, inlined)
			}
			if wrong > 0 {
				t.Errorf("%d are wrong", wrong)
			}
		})
	}
}
