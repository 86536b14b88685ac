package declare

import (
	"fmt"
	"strings"
	"testing"
	"testing/quick"

	"github.com/tcap-dev/tcap/format"
)

// text is all that a declaration says, in one line.
func text(p *Probe) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s path=%s symbol=%s", p.Kind, p.Path, p.Symbol)
	if p.Exact {
		b.WriteString(" exact")
	}
	for i := range p.Args {
		a := &p.Args[i]
		fmt.Fprintf(&b, " %s=%s(%s:%s", a.Name, a.Type, a.text(), a.Value.Type)
		if a.Len != nil {
			fmt.Fprintf(&b, ", %s", a.Len.Type)
		}
		if a.Limit > 0 {
			fmt.Fprintf(&b, ", %d", a.Limit)
		}
		b.WriteByte(')')
	}
	for name, set := range map[string]bool{" {stack}": p.Stack, " {returns}": p.Returns} {
		if set {
			b.WriteString(name)
		}
	}
	if p.Filter != nil {
		fmt.Fprintf(&b, " /%v/", p.Filter)
	}
	if p.NeedsReturn() {
		b.WriteString(" returns")
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"uprobe:/usr/sbin/nginx:ngx_close_connection":                   "uprobe path=/usr/sbin/nginx symbol=ngx_close_connection",
		"uprobe:/usr/sbin/nginx:ngx_*":                                  "uprobe path=/usr/sbin/nginx symbol=ngx_*",
		"uprobe:/a:b:f(fd=u32(arg0+24))":                                "uprobe path=/a:b symbol=f fd=u32(arg0->24:u32)",
		"uprobe:/x:f(fd=u32(*(arg0+24)))":                               "uprobe path=/x symbol=f fd=u32(arg0->24:u32)",
		"uprobe:/x:f(fd=u32(arg0->24))":                                 "uprobe path=/x symbol=f fd=u32(arg0->24:u32)",
		"uprobe:/x:f(fd=u32(arg0))":                                     "uprobe path=/x symbol=f fd=u32(arg0:u32)",
		"uprobe:/x:f(v=i16(*(*(*(*arg1+8)-16)+0x20)))":                  "uprobe path=/x symbol=f v=i16(arg1->0->8->-16->32:i16)",
		"uprobe:/x:f(v=str(arg1->8->0+4))":                              "uprobe path=/x symbol=f v=str(arg1->8->0+4:u64, 4096)",
		"uprobe:/x:f(v=str(arg1, 16k))":                                 "uprobe path=/x symbol=f v=str(arg1:u64, 16384)",
		"uprobe:/x:f(q=buf(arg2, u32(arg3), 100), c=u32(arg0))":         "uprobe path=/x symbol=f q=buf(arg2, arg3:u64, u32, 100) c=u32(arg0:u32)",
		"uprobe:/x:f(q=buf(*arg1, u32(arg1+8)))":                        "uprobe path=/x symbol=f q=buf(arg1->0, arg1->8:u64, u32, 4096)",
		"uretprobe:/x:f(rc=i32(retval))":                                "uretprobe path=/x symbol=f rc=i32(retval:i32) returns",
		"uprobe:/x:f(retval)":                                           "uprobe path=/x symbol=f retval=u64(retval:u64) returns",
		"uprobe:/x:f(new=ptr(after(*arg0)))":                            "uprobe path=/x symbol=f new=ptr(after(arg0->0):ptr) returns",
		"uprobe:/x:f(us=delta(arg0->8->64))":                            "uprobe path=/x symbol=f us=i64(delta(arg0->8->64):i64) returns",
		"uprobe:/x:f(us=u32(delta(*(arg0+8)+4))) /us > 3/":              "uprobe path=/x symbol=f us=u32(delta(arg0->8->4):u32) /u32(delta(arg0->8->4)) > 3/ returns",
		"uprobe:/x:f /delta(*arg1) < -1/":                               "uprobe path=/x symbol=f /i64(delta(arg1->0)) < -1/ returns",
		"uprobe:/x:f(arg0, pid, comm){stack}":                           "uprobe path=/x symbol=f arg0=u64(arg0:u64) pid=u32(pid:u32) comm=str(comm:u64, 16) {stack}",
		"uprobe:/x:f /duration > 10ms/":                                 "uprobe path=/x symbol=f /duration > 10000000/ returns",
		"uprobe:/x:f(fd=i32(arg0)) /fd == -1 || !(arg1 & 0x10)/":        "uprobe path=/x symbol=f fd=i32(arg0:i32) /(i32(arg0) == -1 || !arg1 & 0x10 != 0)/",
		"uprobe:/x:f /(arg1 & 3) == 1 && comm == \"a\\\"b\"/":           `uprobe path=/x symbol=f /(arg1 & 0x3 == 1 && comm == "a\"b")/`,
		`uprobe:/x:f(s=str(arg0)) /s != "x" && (pid == 1 || tid == 2)/`: `uprobe path=/x symbol=f s=str(arg0:u64, 4096) /(str(arg0) != "x" && (pid == 1 || tid == 2))/`,
		`uprobe:"/opt/a (b)/c":THD::*init*`:                             "uprobe path=/opt/a (b)/c symbol=THD::*init*",
		"uprobe:/x:*dispatch_command*":                                  "uprobe path=/x symbol=*dispatch_command*",
		`uprobe:/x:"main.(*T).Work"(n=u64(arg1)) /n == 1/`:              "uprobe path=/x symbol=main.(*T).Work exact n=u64(arg1:u64) /arg1 == 1/",
		`uretprobe:"/a b":"main.F[...]"{stack}`:                         "uretprobe path=/a b symbol=main.F[...] exact {stack} returns",
		`uprobe:/a:b/c:"x:y"`:                                           "uprobe path=/a:b/c symbol=x:y exact",
		"usdt:/usr/bin/x:prov:name(a=u64(arg0))":                        "usdt path=/usr/bin/x symbol=prov:name a=u64(arg0:u64)",
		"tracepoint:syscalls:sys_enter_openat(filename=str(filename))":  "tracepoint path= symbol=syscalls:sys_enter_openat filename=str(filename:u64, 4096)",
		"tracepoint:sched:sched_switch /prev_pid == 1/":                 "tracepoint path= symbol=sched:sched_switch /prev_pid == 1/",
		`tracepoint:a:b(x) /x == "y" && z == "w"/`:                      `tracepoint path= symbol=a:b x=u64(x:u64) /(str(x) == "y" && str(z) == "w")/`,
		"kretprobe:vfs_read(n=i64(retval))":                             "kretprobe path= symbol=vfs_read n=i64(retval:i64) returns",
		"uprobe:/x:f(ip=ipaddr(arg0->8+4), six=ipaddr(arg0, 16))":       "uprobe path=/x symbol=f ip=ipaddr(arg0->8+4:u64, 4) six=ipaddr(arg0:u64, 16)",
	} {
		p, err := Parse(in)
		if err != nil {
			t.Errorf("%s: %v\n%s", in, err, ErrorOf(err).Show())
		} else if got := text(p); got != want {
			t.Errorf("%s:\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	for in, want := range map[string]string{ // the first digit is where
		"probe:/x:f":                                                   "1: want uprobe, uretprobe",
		"uprobe":                                                       "7: after uprobe, want :PATH:FUNCTION",
		"uprobe:*":                                                     "8: uprobe:* would probe every program",
		"uprobe:*:malloc":                                              "8: uprobe:* would probe every program",
		"uprobe:/x":                                                    `8: after uprobe:, want PATH:FUNCTION; "/x" is one word`,
		"uprobe:/x:":                                                   "11: after uprobe:, want PATH:FUNCTION; here is nothing",
		"uprobe:/x:f[a":                                                `11: "f[a" is no pattern`,
		`uprobe:/x:"main.(*T).Work(n=arg0)`:                            `11: want a text in double quotes`,
		`uprobe:/x:""`:                                                 "11: after uprobe:, want PATH:FUNCTION; here is nothing",
		"usdt:/x:p":                                                    "9: after usdt:, want PATH:PROVIDER:NAME",
		"tracepoint:x":                                                 "12: after tracepoint:, want CATEGORY:NAME",
		"uprobe:/x:f(fd=u33(arg0))":                                    `16: there is no type "u33"`,
		"uprobe:/x:f(fd=u32(arg))":                                     `20: there is no value "arg"`,
		"uprobe:/x:f(fd=u32(arg16))":                                   `20: there is no value "arg16"`,
		"uprobe:/x:f(fd=u32(arg0)":                                     "25: want , or ) after an argument, not the end",
		"uprobe:/x:main.(*Conn).Serve(n=arg1)":                         "17: a method of Go, as",
		"uprobe:/x:f(u32(*arg0))":                                      "13: name what is read here: NAME=u32(*arg0)",
		"uprobe:/x:f(a=u8(arg0),a=u8(arg1))":                           `24: argument "a" is there twice`,
		"uprobe:/x:f(stack=u8(arg0))":                                  "13: argument \"stack\" has a name that every call uses",
		"uprobe:/x:f(duration)":                                        "13: every call has its duration",
		"uprobe:/x:f(a=u8(*****arg0))":                                 "18: more than 4 pointers",
		"uprobe:/x:f(a=u8(pid->4))":                                    "21: pid is no pointer",
		"uprobe:/x:f(a=u8(comm))":                                      "15: comm is a str",
		"uprobe:/x:f(a=str(arg0, 0))":                                  "25: 1 to 16384 bytes",
		"uprobe:/x:f(a=str(arg0, 17k))":                                "25: 1 to 16384 bytes",
		"uprobe:/x:f(a=buf(arg0))":                                     "23: want , and the length",
		"uprobe:/x:f(a=buf(arg0, str(arg1)))":                          "25: a length is a number",
		"uprobe:/x:f(a=ipaddr(arg0, 6))":                               "27: an IP address has 4 or 16",
		"uprobe:/x:f(a=u8(after(arg0)))":                               "18: after() is for memory",
		"uprobe:/x:f(a=u8(delta(arg0)))":                               "18: delta() is for memory: arg0 does not change",
		"uprobe:/x:f(a=u8(delta(pid)))":                                "18: delta() is for memory: pid does not change",
		"uprobe:/x:f(a=str(delta(*arg0)))":                             "15: delta() is of a number",
		"uprobe:/x:f(a=ptr(delta(*arg0)))":                             "15: delta() is of a number",
		"uprobe:/x:f(a=u8(delta(*retval)))":                            "18: delta() begins at the entry, where there is no retval",
		"uprobe:/x:f(a=u8(delta(after(*arg0))))":                       "18: after() and delta() do not go together",
		"usdt:/x:p:n(a=u64(delta(*arg0)))":                             "15: delta(): a usdt is one moment",
		"tracepoint:a:b(x=delta(*y))":                                  "18: delta(): a tracepoint is one moment",
		"uprobe:/x:f(a=u8(arg0+99999999999))":                          "22: an offset of",
		"uprobe:/x:f{fast}":                                            `13: want stack, caller or returns, not "fast"`,
		"uprobe:/x:f /arg0/ x":                                         `20: want (ARGUMENTS), {OPTIONS}, /FILTER/ or the end, not "x"`,
		"uprobe:/x:f /arg0 = 1/":                                       "19: equality is ==",
		"uprobe:/x:f /arg0 == -1/":                                     "22: arg0 is unsigned and never negative",
		"uprobe:/x:f /retval < 0/":                                     "23: retval is unsigned and never negative; declare it as i32(",
		"uprobe:/x:f /arg0 >= 0/":                                      "22: arg0 is unsigned and never negative",
		"uprobe:/x:f /u8(arg0) == 256/":                                "26: arg0 is of type u8, which is from 0 to 255",
		"uprobe:/x:f /i8(arg0) != -129/":                               "26: arg0 is of type i8, which is from -128 to 127",
		"uprobe:/x:f /i32(arg0) == 0xffffffff/":                        "27: arg0 is of type i32, which is from -2147483648 to 2147483647",
		"uprobe:/x:f /i64(arg0) < 1<<63/":                              "27: want",
		"uprobe:/x:f /i64(arg0) < 9223372036854775808/":                "26: arg0 is of type i64, which is from",
		"uprobe:/x:f /i64(arg0) > -9223372036854775809/":               "26: -9223372036854775809 is no number of 64 bits",
		"uprobe:/x:f /bool(arg0) == 2/":                                "28: arg0 is of type bool, which is from 0 to 1",
		"uprobe:/x:f /arg0 & 1 == 2/":                                  "26: of the bits 0x1 none makes it 0x2",
		`uprobe:/x:f /ipaddr(arg0) == "::1"/`:                          "30: want an IP address of 4 bytes",
		`uprobe:/x:f /ipaddr(arg0) < "1.1.1.1"/`:                       "28: an address is compared by",
		`tracepoint:a:b /ipaddr(x) == "1.1.1.1"/`:                      "17: x is a field",
		"uprobe:/x:f /arg0 == \"a\"/":                                  "22: arg0 is a number; say str(arg0)",
		"uprobe:/x:f /comm == 1/":                                      "22: want a text in double quotes",
		"uprobe:/x:f /comm > \"a\"/":                                   "20: a text is compared by ==",
		"uprobe:/x:f /arg0 == 1":                                       "23: want / at the end of the filter",
		"uprobe:/x:f /(arg0 == 1/":                                     "24: want ) after the condition",
		"uprobe:/x:f /arg0 == 12x/":                                    `22: "12x" is no number`,
		"uprobe:/x:f /arg0 == 1 & 2/":                                  "24: want && between conditions",
		"usdt:/x:p:n(a=u64(retval))":                                   "19: retval: a usdt is one moment",
		"tracepoint:a:b{returns}":                                      "16: a tracepoint is one moment",
		"kprobe:f{caller}":                                             "1: a kprobe has no caller in a program",
		"uprobe:/x:f(a=str(arg0,16k),b=str(arg0,16k),c=str(arg0,16k))": "45: the texts of a probe",
	} {
		_, err := Parse(in)
		e := ErrorOf(err)
		if e == nil {
			t.Errorf("%s: got error %v", in, err)
			continue
		}
		if got := fmt.Sprintf("%d: %s", e.Col, e.Msg); !strings.HasPrefix(got, want) {
			t.Errorf("%s\n got %s\nwant %s\n%s", in, got, want, e.Show())
		}
	}
}

func TestShow(t *testing.T) {
	_, err := Parse("uprobe:/ü:f(a=u8(x))")
	if got, want := ErrorOf(err).Show(), "uprobe:/ü:f(a=u8(x))\n                 ^"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestIsDeclaration(t *testing.T) {
	for s, want := range map[string]bool{"heap": false, "uprobe:x": true, "./my:pack.yaml": false, "tracepoint:": true, "http:": false} {
		if IsDeclaration(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

// The text of a value is one that says the same.
func TestValueTextReadsBack(t *testing.T) {
	again := func(arg uint8, steps []int32, late, delta bool) bool {
		v := Value{Base: BaseArg, N: int(arg % 16), Steps: steps[:min(len(steps), MaxDerefs)], Late: late && len(steps) > 0}
		v.Delta = delta && len(steps) > 0 && !v.Late
		p, err := Parse("uprobe:/x:f(a=u64(" + v.String() + "))")
		return err == nil && p.Args[0].Value.String() == v.String()
	}
	if err := quick.Check(again, nil); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"uprobe:/usr/sbin/nginx:ngx_close_connection(fd=u32(arg0->24), n=str(*(arg1+8), 64)) /fd > 2 && comm == \"nginx\"/",
		`usdt:"/a b":p:n(a=buf(arg0,u32(arg1->4)))`, "tracepoint:a:b(x,y=str(z)){stack}/!(x&3)==1||x/", "kretprobe:f(retval)",
		"uprobe:/x:f(a=delta(arg0->8->64),b=i16(delta(*arg1)))/a>3||u8(delta(*arg2))==1/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			e := ErrorOf(err)
			if e == nil || e.Col < 1 || e.Col > len(s)+1 {
				t.Fatalf("error %v of %q", err, s)
			}
			_ = e.Show()
			return
		}
		if p.Symbol == "" || !p.InKernel() && p.Path == "" || len(p.Args) > format.MaxArgs || p.Filter.terms() > MaxTerms {
			t.Fatalf("%q gives %+v", s, p)
		}
		for i := range p.Args {
			if a := &p.Args[i]; len(a.Value.Steps) > MaxDerefs || a.Limit > MaxText || !a.Type.Known() {
				t.Fatalf("%q: argument %+v", s, a)
			}
		}
		if p.Filter != nil { // its text says the same
			again, err := Parse(p.Place0() + " /" + p.Filter.String() + "/")
			if err != nil {
				t.Fatalf("own filter %s is refused: %v", p.Filter, err)
			}
			if again.Filter.String() != p.Filter.String() {
				t.Fatalf("%s, then %s", p.Filter, again.Filter)
			}
		}
	})
}

// Place0 is a place of the same kind that needs no quotes.
func (p *Probe) Place0() string {
	if p.Kind == Tracepoint {
		return "tracepoint:a:b"
	}
	if p.Kind == USDT {
		return "usdt:/x:a:b"
	}
	return "uprobe:/x:f"
}

// An IP address is compared as the numbers that it is made of, and told as it was declared.
func TestCompareAddress(t *testing.T) {
	for in, want := range map[string]string{
		`ipaddr(arg0->8) == "10.1.2.3"`:              "u32(arg0->8->0) == 50462986",
		`a != "10.1.2.3"`:                            "u32(arg0->56) != 50462986",
		`ipaddr(arg1, 16) == "2001:db8::1"`:          "(u64(arg1->0) == 3087860000 && u64(arg1->8) == 72057594037927936)",
		`ipaddr(arg1, 16) != "::1"`:                  "(u64(arg1->0) != 0 || u64(arg1->8) != 72057594037927936)",
		`ipaddr(arg1, 16) == "1.2.3.4"`:              "(u64(arg1->0) == 0 && u64(arg1->8) == 289077008694968320)",
		`ipaddr(arg0) == "0.0.0.0" && ptr(arg0) > 4`: "(u32(arg0->0) == 0 && ptr(arg0) > 4)",
	} {
		p, err := Parse("uprobe:/x:f(a=ipaddr(arg0+56)) /" + in + "/")
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		shown := p.Filter.String()
		if !strings.HasPrefix(strings.TrimPrefix(shown, "("), "ipaddr(") {
			t.Errorf("%s is shown as %s", in, shown)
		}
		var plain func(c *Cond)
		plain = func(c *Cond) {
			if c != nil {
				c.written = ""
				plain(c.Left)
				plain(c.Right)
			}
		}
		plain(p.Filter)
		if got := p.Filter.String(); strings.Trim(got, "()") != strings.Trim(want, "()") {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
