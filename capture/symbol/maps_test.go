package symbol

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

const sampleMaps = `55d0c7a4e000-55d0c7a50000 r--p 00000000 fe:00 1311                       /usr/bin/my prog
55d0c7a50000-55d0c7a55000 r-xp 00002000 fe:00 1311                       /usr/bin/my prog
7f0000000000-7f0000021000 rw-p 00000000 00:00 0 
7f8c3aa00000-7f8c3aa26000 r-xp 00001000 103:1002 18446744073709551615    /tmp/a\012b (deleted)
7ffd1c5a5000-7ffd1c5c6000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`

func TestParseMaps(t *testing.T) {
	got, err := ParseMaps(strings.NewReader(sampleMaps))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{
		{0x55d0c7a4e000, 0x55d0c7a50000, 0, 0xfe00, 1311, "/usr/bin/my prog", false, false},
		{0x55d0c7a50000, 0x55d0c7a55000, 0x2000, 0xfe00, 1311, "/usr/bin/my prog", true, false},
		{Start: 0x7f0000000000, End: 0x7f0000021000},
		{0x7f8c3aa00000, 0x7f8c3aa26000, 0x1000, 0x1010302, 1<<64 - 1, "/tmp/a\nb", true, true},
		{Start: 0x7ffd1c5a5000, End: 0x7ffd1c5c6000, Path: "[stack]"},
		{Start: 0xffffffffff600000, End: 0xffffffffff601000, Path: "[vsyscall]", Exec: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestParseMapsErrors(t *testing.T) {
	for _, line := range []string{
		"x",
		"1-2 r-xp 0 0:0",
		"1-2 r-xp 0 00 5 /x",
		"2-1 r-xp 0 0:0 5 /x",
		"1-g r-xp 0 0:0 5 /x",
		"1 r-xp 0 0:0 5 /x",
		"1-2 rx 0 0:0 5 /x",
		"1-11111111111111111 r-xp 0 0:0 5 /x",
		"1-2 r-xp 0 0:0 5 /" + strings.Repeat("x", maxMapsLine),
	} {
		got, err := ParseMaps(strings.NewReader("1-2 r-xp 0 0:0 5 /ok\n" + line + "\n"))
		if err == nil {
			t.Errorf("%.40q: no error", line)
		}
		if len(got) != 1 || got[0].Path != "/ok" {
			t.Errorf("%.40q: the line before is lost: %v", line, got)
		}
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add(sampleMaps)
	f.Add("1-2 r-xp 0 0:0 5\n")
	f.Fuzz(func(t *testing.T, text string) {
		maps, _ := ParseMaps(strings.NewReader(text))
		if lines := strings.Count(text, "\n") + 1; len(maps) > lines {
			t.Errorf("%d mappings from %d lines", len(maps), lines)
		}
		for _, m := range maps {
			if m.End < m.Start {
				t.Errorf("mapping ends before it starts: %+v", m)
			}
		}
	})
}

// TestParseMapsOwn reads this process's own map, where there is one.
func TestParseMapsOwn(t *testing.T) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Skip("no /proc here")
	}
	defer f.Close()
	maps, err := ParseMaps(f)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if m.Path == self && m.Exec {
			return
		}
	}
	t.Errorf("no executable mapping of %s in %d mappings", self, len(maps))
}
