package probe

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

const accessorSource = `
struct user { char pad[24]; const char *name; };
struct context { struct user *user; };
struct session { char pad[9000]; unsigned id; char more[1000]; struct context *context; struct { const char *s; long n; } db; long s; unsigned long us; };
unsigned long id(const struct session *s) { return s->id; }
const char *name(struct session *s) { return s->context && s->context->user ? s->context->user->name : 0; }
int get(struct session *s, struct context **out) { if (!out) return 1; *out = s->context; return 0; }
void *db(struct session *s) { return &s->db; }
unsigned long long began(const struct session *s) { return s->s * 1000000ULL + s->us; }
void __attribute__((noipa)) close_it(struct session *s) { s->id = 0; }
void drop(struct session *s) { close_it(s); s->context->user = 0; }
int sum(int a, int b) { return a + b; }
int second(int a, struct session *s) { return s->id; }
int element(struct session *s, long i) { return s->pad[i]; }
int main(int c, char **v) { return 0; }
`

// TestAccessor: the offsets by which small functions follow their first argument, as
// several compilers' options make them.
func TestAccessor(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("makes an amd64 program")
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		kerneltest.Skip(t, "gcc is not installed")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "a.c")
	if err := os.WriteFile(source, []byte(accessorSource), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []string{"-O2", "-O1 -fcf-protection", "-Os", "-O2 -fno-omit-frame-pointer -fPIC", "-O3 -fcf-protection -mcmodel=large"} {
		exe := filepath.Join(dir, "a")
		if out, err := exec.Command(gcc, append(strings.Fields(flags), "-rdynamic", "-o", exe, source)...).CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
		e, err := OpenELF(exe)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]int64{
			"id": {9000}, "name": {10008, 0, 24}, "get": {10008}, "db": {10016}, "began": {10032, 10040}, "drop": {10008}, "sum": nil, "second": nil, "element": nil,
		} {
			s, err := e.Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Accessor(s); !slices.Equal(got, want) {
				t.Errorf("gcc %s: %s follows %d, want %d", flags, name, got, want)
			}
		}
		e.Close()
	}
}

// TestAccessorLoops: code that jumps back, or nowhere.
func TestAccessorLoops(t *testing.T) {
	for name, code := range map[string][]byte{
		"to itself":       {0x75, 0xfe},
		"in front":        {0x75, 0x80},
		"behind":          {0x75, 0x7f},
		"of no size":      nil,
		"of a long chain": slices.Repeat([]byte{0x48, 0x8b, 0x7f, 0x08}, 64), // mov 8(%rdi),%rdi
	} {
		if n := len(loads(code)); n > maxAccessorSteps || n > 0 && name != "of a long chain" {
			t.Errorf("%s: %d", name, n)
		}
	}
	if got := (&ELF{file: &elf.File{FileHeader: elf.FileHeader{Machine: elf.EM_AARCH64}}}).Accessor(Symbol{}); got != nil {
		t.Errorf("arm64: %d", got)
	}
}

func FuzzAccessor(f *testing.F) {
	f.Add([]byte{0x48, 0x8b, 0x87, 0xf8, 0x25, 0, 0, 0x48, 0x85, 0xc0, 0x74, 4, 0x48, 0x8b, 0x40, 8, 0xc3})
	f.Fuzz(func(t *testing.T, code []byte) { loads(code) })
}
