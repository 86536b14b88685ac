package tcap_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPitfalls wants every test and scenario that the tables of pitfalls name to
// exist, and every pitfall of theirs to name one.
func TestPitfalls(t *testing.T) {
	names := testNames(t)
	test, scenario, row := regexp.MustCompile("`(Test[A-Za-z0-9]+)`"), regexp.MustCompile("`([a-z-]+\\.txtar)`"), regexp.MustCompile(`(?m)^\| *\d+ *\|.*$`)
	for _, doc := range []string{"docs/pitfalls.md", "docs/pitfalls-tcp.md"} {
		data, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, m := range test.FindAllStringSubmatch(text, -1) {
			if !names[m[1]] {
				t.Errorf("%s: there is no %s", doc, m[1])
			}
		}
		for _, m := range scenario.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("testdata", "scenarios", m[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
		rows := row.FindAllString(text, -1)
		if len(rows) < 18 {
			t.Errorf("%s: %d pitfalls, want at least 18", doc, len(rows))
		}
		for _, r := range rows {
			if !test.MatchString(r) && !scenario.MatchString(r) {
				t.Errorf("%s: no test for %s", doc, r)
			}
		}
	}
}

// testNames are the test functions of the tree.
func testNames(t *testing.T) map[string]bool {
	names := map[string]bool{}
	decl := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range decl.FindAllStringSubmatch(string(data), -1) {
			names[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
