// Package tcap_test holds the rules of the house that a compiler does not
// know: who may import whom, what packages are called, how long files get.
package tcap_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

const (
	module   = "github.com/tcap-dev/tcap"
	maxLines = 500
)

// room is a top-level directory: the packages of ours that it may import, each
// standing for itself and all below it, and the packages of others that it
// must not.
type room struct {
	ours   []string
	barred []string
}

// rooms is the whole house. What reads captures runs on any system without
// root, so the door to the kernel is closed to it.
var rooms = map[string]room{
	"format":  {ours: []string{"format"}, barred: []string{"os/exec", "syscall", "golang.org/x/sys", "github.com/cilium/ebpf"}},
	"bpf":     {},
	"capture": {ours: []string{"bpf", "format", "capture"}, barred: []string{"github.com/spf13/cobra"}},
	"analyze": {ours: []string{"format", "analyze"}, barred: []string{"syscall", "golang.org/x/sys", "github.com/cilium/ebpf", "github.com/spf13/cobra"}},
	"cmd":     {ours: []string{"format", "capture", "analyze", "cmd"}},
}

// unnamed are package names that say nothing about what is inside.
var unnamed = map[string]bool{"util": true, "utils": true, "common": true, "types": true, "helpers": true}

// The sources are parsed rather than asked from go list: the test cache sees
// the files a test opens, not what a command it runs has read.
func TestLayers(t *testing.T) {
	seen := map[string]int{}
	err := eachSource(os.DirFS("."), func(name string, text []byte) {
		seen[strings.SplitN(name, "/", 2)[0]]++
		for _, complaint := range inspect(name, text) {
			t.Error(complaint)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range rooms {
		if seen[dir] == 0 {
			t.Errorf("no source of %s was inspected", dir)
		}
	}
	t.Logf("files inspected: %v", seen)
}

// eachSource calls fn for every Go and C file of ours.
func eachSource(tree fs.FS, fn func(name string, text []byte)) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if base := d.Name(); name != "." && (base == "testdata" || strings.HasPrefix(base, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		switch path.Ext(name) {
		case ".go", ".c", ".h":
			text, err := fs.ReadFile(tree, name)
			if err != nil {
				return err
			}
			fn(name, text)
		}
		return nil
	})
}

// inspect returns what is wrong with one source file.
func inspect(name string, text []byte) (complaints []string) {
	complain := func(format string, args ...any) {
		complaints = append(complaints, name+": "+fmt.Sprintf(format, args...))
	}
	test := strings.HasSuffix(name, "_test.go")
	generated := false
	if path.Ext(name) == ".go" {
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			complain("%v", err)
			return complaints
		}
		generated = ast.IsGenerated(file)
		pkg := strings.TrimSuffix(file.Name.Name, "_test")
		if unnamed[pkg] {
			complain("package name %q says nothing about what is inside", pkg)
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				complain("import %s: %v", spec.Path.Value, err)
				continue
			}
			if why := forbidden(name, imported, test); why != "" {
				complain("%s", why)
			}
		}
	}
	if lines := bytes.Count(text, []byte("\n")); lines > maxLines && !test && !generated {
		complain("%d lines, more than %d", lines, maxLines)
	}
	return complaints
}

// forbidden returns why the file must not import the package, or "". Tests
// may reach across rooms, except those of format: it has to stand alone.
func forbidden(name, imported string, test bool) string {
	dir, _, found := strings.Cut(name, "/")
	if !found {
		return "" // the root holds this test only
	}
	r, ok := rooms[dir]
	if !ok {
		return fmt.Sprintf("%s is not a room of the house", dir)
	}
	if test && dir != "format" {
		return ""
	}
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		for _, allowed := range r.ours {
			if within(ours, allowed) {
				return ""
			}
		}
		return fmt.Sprintf("%s must not import %s", dir, ours)
	}
	for _, barred := range r.barred {
		if within(imported, barred) && !test {
			return fmt.Sprintf("%s must not import %s", dir, imported)
		}
	}
	return ""
}

// within reports whether the import path is dir or below it.
func within(importPath, dir string) bool {
	return importPath == dir || strings.HasPrefix(importPath, dir+"/")
}

// TestInspect proves that the rules above bite, and that they let pass what
// they should.
func TestInspect(t *testing.T) {
	long := strings.Repeat("\n", maxLines+1)
	imports := func(p string) string { return "package p\n\nimport _ \"" + p + "\"\n" }
	for _, c := range []struct {
		name, text string
		want       string // part of the complaint; empty if all is well
	}{
		{"format/a.go", imports(module + "/capture"), "format must not import capture"},
		{"format/a_test.go", imports(module + "/analyze/leaks"), "format must not import analyze/leaks"},
		{"format/a_test.go", imports(module + "/format/tracetest"), ""},
		{"format/deep/a.go", imports("golang.org/x/sys/unix"), "must not import golang.org/x/sys/unix"},
		{"format/a.go", imports("os/exec"), "must not import os/exec"},
		{"format/a_test.go", imports("os/exec"), ""},
		{"format/a.go", imports("syscall"), "must not import syscall"},
		{"format/a.go", imports("github.com/klauspost/compress/zstd"), ""},
		{"bpf/a.go", imports(module + "/format"), "bpf must not import format"},
		{"bpf/a.go", imports("github.com/cilium/ebpf"), ""},
		{"capture/a.go", imports(module + "/bpf"), ""},
		{"capture/probe/a.go", imports(module + "/capture/symbol"), ""},
		{"capture/a.go", imports(module + "/analyze"), "capture must not import analyze"},
		{"capture/a_test.go", imports(module + "/analyze"), ""},
		{"analyze/a.go", imports(module + "/capture/symbol"), "analyze must not import capture/symbol"},
		{"analyze/export/a.go", imports(module + "/formatter"), "analyze must not import formatter"},
		{"analyze/a.go", imports("github.com/cilium/ebpf/link"), "must not import github.com/cilium/ebpf/link"},
		{"cmd/tcap/a.go", imports(module + "/bpf"), "cmd must not import bpf"},
		{"cmd/tcap/a.go", imports(module + "/analyze/export"), ""},
		{"pkg/a.go", imports("fmt"), "pkg is not a room"},
		{"capture/a.go", "package utils\n", `"utils" says nothing`},
		{"capture/a_test.go", "package common_test\n", `"common" says nothing`},
		{"capture/a.go", "package p\n" + long, "more than 500"},
		{"bpf/a.h", long, "more than 500"},
		{"capture/a_test.go", "package p\n" + long, ""},
		{"bpf/a.go", "// Code generated by bpf2go; DO NOT EDIT.\n\npackage bpf\n" + long, ""},
		{"format/a.go", "packag p\n", "expected 'package'"},
	} {
		got := strings.Join(inspect(c.name, []byte(c.text)), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s holding\n%.80s\ncomplaint %q, want %q", c.name, c.text, got, c.want)
		}
	}
}
