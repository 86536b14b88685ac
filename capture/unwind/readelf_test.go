package unwind

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// readelfNames are the columns of readelf -wF.
var readelfNames = map[string]uint8{
	"rbx": amd64RBX, "rbp": amd64RBP, "r12": 12, "r13": 13, "r14": 14, "r15": 15,
	"rsp": amd64RSP, "ra": amd64RA, "rdi": 5, "rdx": 1, "rcx": 2,
}

// show writes a rule's part as readelf does.
func show(r *recipe) string {
	switch r.how {
	case atCFA:
		return fmt.Sprintf("c%+d", r.off)
	case undefined:
		return "u"
	case atExpr:
		return "exp"
	case isExpr:
		return "vexp"
	case isCFA:
		return fmt.Sprintf("v%+d", r.off)
	}
	return "?"
}

func showCFA(r *recipe) string {
	if r.how == isExpr {
		return "exp"
	}
	for name, reg := range readelfNames {
		if reg == r.reg {
			return fmt.Sprintf("%s%+d", name, r.off)
		}
	}
	return fmt.Sprintf("r%d%+d", r.reg, r.off)
}

// TestReadelf compares the rules of each row of the C library, the dynamic
// linker and libgcc with those that binutils decodes.
func TestReadelf(t *testing.T) {
	for _, path := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libgcc_s.so.1"} {
		file, err := os.Open(path)
		if err != nil {
			t.Logf("not here: %v", err)
			continue
		}
		defer file.Close()
		m := New(Options{}).Load(file, path)
		out, _ := exec.Command(tool(t, "readelf"), "-wF", path).Output() // which also fails for want of a debug file
		rows, wrong := 0, 0
		var columns []string
		code := false // the rows are those of an entry
		for _, line := range strings.Split(string(out), "\n") {
			fields := strings.Fields(line)
			switch {
			case strings.Contains(line, " FDE "), strings.Contains(line, " CIE "), strings.Contains(line, "terminator"):
				code = strings.Contains(line, " FDE ")
			case len(fields) > 1 && fields[0] == "LOC":
				columns = fields[1:]
			case code && len(fields) == len(columns)+1:
				pc, err := strconv.ParseUint(fields[0], 16, 64)
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				m.u.work = maxWork
				rows++
				if why := differs(m.rule(pc, false), columns, fields[1:]); why != "" {
					if wrong++; wrong < 10 {
						t.Errorf("%s: %#x: %s; readelf: %s", path, pc, why, line)
					}
				}
			}
		}
		if rows < 100 || wrong > 0 || m.Err() != nil {
			t.Errorf("%s: %d of %d rows differ; %v", path, wrong, rows, m.Err())
		}
		t.Logf("%s: %d rows", path, rows)
	}
}

// differs compares the columns that are followed.
func differs(r *rule, columns, want []string) string {
	if r == nil {
		return "no rule"
	}
	if got := showCFA(&r.cfa); got != want[0] {
		return "CFA " + got
	}
	for i, name := range columns {
		reg, ok := readelfNames[name]
		if !ok || i == 0 || reg != amd64RA && machines[AMD64].kept>>reg&1 == 0 {
			continue
		}
		got := "u" // so readelf has what is not said, too
		if reg == amd64RA {
			got = show(&r.ra)
		}
		for j := range r.saved {
			if r.saved[j].target == reg {
				got = show(&r.saved[j])
			}
		}
		if got != want[i] && (want[i] != "s" || got != "u") {
			return name + " " + got
		}
	}
	return ""
}
