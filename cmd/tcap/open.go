package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

// open opens a capture to be read.
func open(path string) (*format.Reader, error) {
	r, err := format.Open(path)
	switch {
	case errors.Is(err, format.ErrNotCapture) && isEmpty(path):
		return nil, fmt.Errorf("%s: the file is empty: recording has not begun, or the recorder was killed before it did", path)
	case errors.Is(err, format.ErrNotCapture) && begins(path, "\x89TCAP"):
		return nil, fmt.Errorf("%s: it begins as a capture, but no part of it is whole: most of it is missing or overwritten", path)
	case errors.Is(err, format.ErrNotCapture):
		return nil, fmt.Errorf("%s: %w", path, format.ErrNotCapture)
	case errors.Is(err, format.ErrVersion):
		return nil, fmt.Errorf("%w; use a newer tcap", err)
	}
	return r, err
}

func isEmpty(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Size() == 0
}

// begins tells what a file begins with.
func begins(path, with string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(with))
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == with
}

// warnDamaged says of a capture that is about to be written anew what is missing in it.
func warnDamaged(r *format.Reader, path string) {
	const most = 20
	damage := r.Damage()
	for i := range damage[:min(most, len(damage))] {
		fmt.Fprintf(os.Stderr, "tcap: warning: %s: damaged: %s\n", path, escape(describeDamage(r, &damage[i])))
	}
	if n := len(damage) - most; n > 0 {
		fmt.Fprintf(os.Stderr, "tcap: warning: %s: %s\n", path, things(n, "more damaged part"))
	}
	if _, clean := r.Trailer(); !clean {
		fmt.Fprintf(os.Stderr, "tcap: warning: %s has no clean end: the recorder was killed, or the file was cut\n", path)
	}
}

// output is where a report goes: stdout, or the file of -o.
func output(path string) (io.Writer, func() error, error) {
	if path == "" || path == "-" {
		return os.Stdout, func() error { return nil }, nil
	}
	// A slip of the hand must not cost a recording, least of all the one that is read.
	if r, err := format.Open(path); err == nil || errors.Is(err, format.ErrVersion) {
		if r != nil {
			r.Close()
		}
		return nil, nil, fmt.Errorf("write report: %s is a capture, which the report would replace; name another file", path)
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, nil, fmt.Errorf("write report: %w", err)
	}
	return f, f.Close, nil
}

// columns is how wide a report is, or that it is as wide as its tables are.
func columns(w io.Writer, wide bool) int {
	if wide {
		return export.Wide
	}
	return width(w)
}

// width is how wide a report may be: the terminal's, or 80 in a pipe or a file.
func width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 80
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil || n == 0 { // 0: it does not know
		return 80
	}
	return n
}
