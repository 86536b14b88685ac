package format

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

var typeNames = [...]string{"invalid", "uint", "int", "delta", "addr", "block", "freed", "enum", "string", "stack", "module", "probe", "bytes"}

// TestKindsInDocs holds the table of kinds in docs/format.md against Kinds.
func TestKindsInDocs(t *testing.T) {
	const path, begin, end = "../docs/format.md", "-update -->\n", "<!-- end of kinds -->"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table of kinds", path)
	}
	var want strings.Builder
	want.WriteString("| kind | name | fields |\n|---|---|---|\n")
	for _, k := range Kinds[1:] {
		fields := make([]string, len(k.Fields))
		for i, f := range k.Fields {
			fields[i] = fmt.Sprintf("%s (%s)", f.Name, typeNames[f.Type])
			if f.Unit != UnitNone {
				fields[i] = fmt.Sprintf("%s (%s, %s)", f.Name, typeNames[f.Type], f.Unit)
			}
		}
		fmt.Fprintf(&want, "| %d | `%s` | %s %s |\n", k.Kind, k.Name, k.Doc, strings.Join(fields, ", "))
	}
	want.WriteString("\nValues of enums, from 0:\n\n")
	listed := map[string]bool{}
	for _, k := range Kinds {
		for _, f := range k.Fields {
			if names := strings.Join(f.Enum, ", "); f.Type == TypeEnum && !listed[f.Name+names] && names != "no, yes" {
				listed[f.Name+names] = true
				fmt.Fprintf(&want, "- `%s` of %s: %s\n", f.Name, k.Name, names)
			}
		}
	}
	if have == want.String() {
		return
	}
	if !*update {
		t.Fatalf("%s has another table of kinds than the code; run with -update", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
