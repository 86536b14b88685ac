package probe

import (
	"errors"
	"sort"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// Names of C++ are found as people write them, and told as near as they are to what was
// asked for.
func TestWrittenNames(t *testing.T) {
	e, err := OpenELF(kerneltest.Build(t, "../../testdata/programs/calls/throws.cpp", "-O1", "-lstdc++"))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const two, one = "_ZN3app2Db7executeEPKcl", "_ZN3app2Db7executeEl"
	for _, c := range []struct {
		find func(string) ([]Symbol, error)
		name string
		want string
	}{
		{e.Functions, "app::Db::execute", two + " " + one},
		{e.Functions, two, two},
		{e.Functions, "app::Db::exec*", two + " " + one},
		{e.Exactly, "app::Db::execute", two + " " + one},
		{e.Exactly, "app::Db::execute(char const*, long)", two},
		{e.Exactly, "app::Db::execute(long)", one},
		{e.Exactly, "int app::Db::twice<int>(int)", "_ZN3app2Db5twiceIiEET_S2_"},
		{e.Exactly, "app::Db::twice<long>", "_ZN3app2Db5twiceIlEET_S2_"},
	} {
		found, err := c.find(c.name)
		var got []string
		for _, s := range found {
			got = append(got, s.Name)
		}
		sort.Strings(got)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, %v, want %s", c.name, got, err, c.want)
		}
	}
	for name, want := range map[string]string{
		"exectue": "it has app::Db::execute", "app::Db::exec": "it has app::Db::execute", "app::Db::execute(int)": "it has app::Db::execute",
		"*exectue*": "it has app::Db::execute", "shop::Client::execute": "it has app::Db::execute", "man": "it has main",
	} {
		if _, err := e.Functions(name); !errors.Is(err, ErrNoSymbol) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// An exception may pass what is of C++ in a program that throws, and nothing of C.
func TestUnwinds(t *testing.T) {
	for _, c := range []struct {
		source, name string
		want         bool
		flags        []string
	}{
		{"../../testdata/programs/calls/throws.cpp", "app::Db::fail", true, nil},
		{"../../testdata/programs/calls/throws.cpp", "app::Db::fail", true, []string{"-static"}},
		{"../../testdata/programs/calls/throws.cpp", "main", false, nil},
		{"../../testdata/programs/calls/catches.cpp", "app::get", true, nil},
		{"testdata/family.c", "main", false, nil},
	} {
		e, err := OpenELF(kerneltest.Build(t, c.source, append(c.flags, "-O1", "-lstdc++")...))
		if err != nil {
			t.Fatal(err)
		}
		found, err := e.Functions(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Unwinds(found[0]); got != c.want {
			t.Errorf("%s in %s %v: %v, want %v", c.name, c.source, c.flags, got, c.want)
		}
		e.Close()
	}
}
