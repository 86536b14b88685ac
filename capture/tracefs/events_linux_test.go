package tracefs

import (
	"slices"
	"strings"
	"testing"
)

const execFormat = `name: sched_process_exec
ID: 365
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:__data_loc char[] filename;	offset:8;	size:4;	signed:0;
	field:pid_t pid;	offset:12;	size:4;	signed:1;
	field:char comm[16];	offset:16;	size:16;	signed:0;
	field:__rel_loc char[] why;	offset:32;	size:4;	signed:0;
	field:const char * const * argv;	offset:40;	size:8;	signed:0;

print fmt: "filename=%s pid=%d", __get_str(filename), REC->pid
`

func TestParseFormat(t *testing.T) {
	got, err := parseFormat(execFormat)
	want := []Field{
		{Name: "filename", Type: "__data_loc char[]", Offset: 8, Size: 4}, {Name: "pid", Type: "pid_t", Offset: 12, Size: 4, Signed: true},
		{Name: "comm", Type: "char[16]", Offset: 16, Size: 16}, {Name: "why", Type: "__rel_loc char[]", Offset: 32, Size: 4},
		{Name: "argv", Type: "const char * const *", Offset: 40, Size: 8},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := parseFormat("field:int x; offset:70000; size:4; signed:1;"); err == nil {
		t.Error("an offset beyond every record was taken")
	}
}

// FuzzParseFormat checks what can be said of any text: a field has a name, and lies
// where a record may have one.
func FuzzParseFormat(f *testing.F) {
	f.Add(execFormat)
	f.Add("field:int x;	offset:0;	size:4;	signed:1;\nfield: ;")
	f.Add("field:a b[field:c;	offset:1;	size:1;	signed:0;];	offset:65535;	size:65535;	signed:0;")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseFormat(text)
		if err != nil {
			return
		}
		if len(list) > maxFields || len(list) > strings.Count(text, "field:") {
			t.Errorf("%d fields", len(list))
		}
		for _, x := range list {
			if x.Name == "" || strings.HasPrefix(x.Name, "common_") || x.Offset < 0 || x.Offset > 0xffff || x.Size < 0 || x.Size > 0xffff {
				t.Errorf("field %+v", x)
			}
		}
	})
}
