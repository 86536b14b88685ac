package tcap_test

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pitfallPages are the tables, and how many rows each has at least.
var pitfallPages = map[string]int{"docs/pitfalls.md": 18, "docs/pitfalls-tcp.md": 18, "docs/pitfalls-apps.md": 7}

// TestPitfalls wants every test and scenario that the tables of pitfalls name to
// exist and to run, and every pitfall of theirs to name one.
func TestPitfalls(t *testing.T) {
	names := linuxTests(t)
	test, scenario, row := regexp.MustCompile("`(Test[A-Za-z0-9]+)`"), regexp.MustCompile("`([a-z-]+\\.txtar)`"), regexp.MustCompile(`(?m)^\| *\d+ *\|.*$`)
	for doc, least := range pitfallPages {
		data, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, m := range test.FindAllStringSubmatch(text, -1) {
			if why, ok := names[m[1]]; !ok || why != "" {
				t.Errorf("%s: there is no %s that runs: %s", doc, m[1], why)
			}
		}
		for _, m := range scenario.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("testdata", "scenarios", m[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
		rows := row.FindAllString(text, -1)
		if len(rows) < least {
			t.Errorf("%s: %d pitfalls, want at least %d", doc, len(rows), least)
		}
		for _, r := range rows {
			if !test.MatchString(r) && !scenario.MatchString(r) {
				t.Errorf("%s: no test for %s", doc, r)
			}
		}
	}
}

// TestThatRuns shows what linuxTests takes for a test that runs, and what not.
func TestThatRuns(t *testing.T) {
	dir := t.TempDir()
	const want = "TestRuns TestSkipsInside"
	for name, text := range map[string]string{
		"a_test.go": "func TestRuns(t *testing.T) { t.Log() }\nfunc TestSkipsInside(t *testing.T) { if false { t.Skip() } }\n" +
			"func TestSkips(t *testing.T) { t.Skip() }\nfunc TestSkipsLate(t *testing.T) { t.Log(); kerneltest.Skip(t, `x`); t.Log() }\n" +
			"func (x y) TestMethod(t *testing.T) {}\nfunc TestOther(n int) {}\nfunc Testing(t *testing.T) {}\n// func TestComment(t *testing.T) {}\n",
		"b_windows_test.go": "func TestWindows(t *testing.T) {}\n",
		"c_test.go":         "//go:build ignore\n\npackage x\nfunc TestIgnored(t *testing.T) {}\n",
		"d.go":              "func TestInNoTest(t *testing.T) {}\n",
	} {
		if !strings.HasPrefix(text, "//go:build") {
			text = "package x\n" + text
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]string{}
	if err := testsIn(dir, found); err != nil {
		t.Fatal(err)
	}
	for name, why := range found {
		if slices.Contains(strings.Fields(want), name) != (why == "") {
			t.Errorf("%s: %q", name, why)
		}
	}
	for name := range strings.FieldsSeq(want) {
		if _, ok := found[name]; !ok {
			t.Errorf("%s is not found", name)
		}
	}
}

// linuxTests are the test functions of the tree, and why one never runs on Linux; ""
// when it does.
func linuxTests(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil || !d.IsDir():
			return err
		case path != "." && strings.HasPrefix(d.Name(), "."), d.Name() == "testdata":
			return filepath.SkipDir
		}
		return testsIn(path, names)
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// testsIn adds the tests of a directory. A test that is there twice runs if one does.
func testsIn(dir string, names map[string]string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return err
	}
	linux := build.Default
	linux.GOOS, linux.CgoEnabled = "linux", false
	for _, path := range files {
		built, err := linux.MatchFile(dir, filepath.Base(path))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !isTest(f) {
				continue
			}
			why := skips(f)
			if !built {
				why = fmt.Sprintf("%s is not built for Linux", path)
			}
			if old, ok := names[f.Name.Name]; !ok || old != "" {
				names[f.Name.Name] = why
			}
		}
	}
	return nil
}

// isTest reports whether go test takes a function for a test.
func isTest(f *ast.FuncDecl) bool {
	rest, ok := strings.CutPrefix(f.Name.Name, "Test")
	if !ok || rest == "" || rest[0] >= 'a' && rest[0] <= 'z' || f.Recv != nil || f.Body == nil || len(f.Type.Params.List) != 1 {
		return false
	}
	star, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	typ, ok := star.X.(*ast.SelectorExpr)
	return ok && typ.Sel.Name == "T"
}

// skips says whether a test skips itself under no condition.
func skips(f *ast.FuncDecl) string {
	for _, s := range f.Body.List {
		x, ok := s.(*ast.ExprStmt)
		if !ok {
			continue
		}
		call, ok := x.X.(*ast.CallExpr)
		if !ok {
			continue
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(sel.Sel.Name, "Skip") {
			return f.Name.Name + " skips itself"
		}
	}
	return ""
}
