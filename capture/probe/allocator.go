package probe

import (
	"fmt"
	"sort"
	"strings"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// allocatorRow says which names an allocator function goes by, and how it is
// read. The order of the table decides where several names share one place:
// the first row wins.
type allocatorRow struct {
	fn    uint8
	shape bpf.RawShape
	names []string
}

// prefixed names are looked for with every one of namePrefixes.
var prefixed = []allocatorRow{
	{format.FnMalloc, bpf.RawShapeOfSize, []string{"malloc"}},
	{format.FnCalloc, bpf.RawShapeOfCalloc, []string{"calloc"}},
	{format.FnRealloc, bpf.RawShapeOfRealloc, []string{"realloc"}},
	{format.FnReallocarray, bpf.RawShapeOfReallocarray, []string{"reallocarray"}},
	{format.FnPosixMemalign, bpf.RawShapeOfPosix, []string{"posix_memalign"}},
	{format.FnAlignedAlloc, bpf.RawShapeOfAlign, []string{"aligned_alloc"}},
	{format.FnMemalign, bpf.RawShapeOfAlign, []string{"memalign"}},
	{format.FnValloc, bpf.RawShapeOfSize, []string{"valloc"}},
	{format.FnPvalloc, bpf.RawShapeOfSize, []string{"pvalloc"}},
	{format.FnFree, bpf.RawShapeOfFree, []string{"free"}},
	{format.FnCfree, bpf.RawShapeOfFree, []string{"cfree"}},
	{format.FnFreeSized, bpf.RawShapeOfFree, []string{"free_sized"}},
	{format.FnFreeAlignedSized, bpf.RawShapeOfFree, []string{"free_aligned_sized"}},
	{format.FnMallocx, bpf.RawShapeOfSize, []string{"mallocx"}},
	{format.FnRallocx, bpf.RawShapeOfRealloc, []string{"rallocx"}},
	{format.FnSdallocx, bpf.RawShapeOfFree, []string{"sdallocx"}},
	{format.FnDallocx, bpf.RawShapeOfFree, []string{"dallocx"}},
}

// namePrefixes: none; jemalloc's usual private one; the one of Rust's
// tikv-jemallocator; mimalloc; gperftools.
var namePrefixes = []string{"", "je_", "_rjem_", "mi_", "tc_"}

// verbatim names have no variants. The C++ ones are mangled by the Itanium
// ABI: _Znw is operator new, _Zna new[], _Zdl delete, _Zda delete[]; m is
// size_t, and the alignment of the aligned forms comes after the size.
var verbatim = []allocatorRow{
	{format.FnNew, bpf.RawShapeOfSize, []string{
		"_Znwm", "_ZnwmRKSt9nothrow_t", "_ZnwmSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t",
		"mi_new", "mi_new_nothrow", "mi_new_aligned", "mi_new_aligned_nothrow",
		"tc_new", "tc_new_nothrow", "tc_new_aligned", "tc_new_aligned_nothrow"}},
	{format.FnNewArray, bpf.RawShapeOfSize, []string{
		"_Znam", "_ZnamRKSt9nothrow_t", "_ZnamSt11align_val_t", "_ZnamSt11align_val_tRKSt9nothrow_t",
		"tc_newarray", "tc_newarray_nothrow", "tc_newarray_aligned", "tc_newarray_aligned_nothrow"}},
	{format.FnNewArray, bpf.RawShapeOfCalloc, []string{"mi_new_n"}},
	{format.FnDelete, bpf.RawShapeOfFree, []string{
		"_ZdlPv", "_ZdlPvm", "_ZdlPvRKSt9nothrow_t", "_ZdlPvSt11align_val_t",
		"_ZdlPvSt11align_val_tRKSt9nothrow_t", "_ZdlPvmSt11align_val_t",
		"tc_delete", "tc_delete_sized", "tc_delete_nothrow", "tc_delete_aligned",
		"tc_delete_aligned_nothrow", "tc_delete_sized_aligned"}},
	{format.FnDeleteArray, bpf.RawShapeOfFree, []string{
		"_ZdaPv", "_ZdaPvm", "_ZdaPvRKSt9nothrow_t", "_ZdaPvSt11align_val_t",
		"_ZdaPvSt11align_val_tRKSt9nothrow_t", "_ZdaPvmSt11align_val_t",
		"tc_deletearray", "tc_deletearray_sized", "tc_deletearray_nothrow", "tc_deletearray_aligned",
		"tc_deletearray_aligned_nothrow", "tc_deletearray_sized_aligned"}},

	// mimalloc's own interface, https://microsoft.github.io/mimalloc.
	{format.FnMalloc, bpf.RawShapeOfSize, []string{
		"mi_malloc_small", "mi_zalloc", "mi_zalloc_small", "mi_malloc_aligned", "mi_zalloc_aligned"}},
	{format.FnMalloc, bpf.RawShapeOfAlign, []string{"mi_heap_malloc", "mi_heap_zalloc"}}, // heap, size
	{format.FnCalloc, bpf.RawShapeOfCalloc, []string{"mi_mallocn", "mi_calloc_aligned"}},
	{format.FnRealloc, bpf.RawShapeOfRealloc, []string{"mi_realloc_aligned", "mi_rezalloc"}},
	{format.FnReallocarray, bpf.RawShapeOfReallocarray, []string{"mi_reallocn", "mi_recalloc"}},
	{format.FnFreeSized, bpf.RawShapeOfFree, []string{"mi_free_size", "mi_free_aligned"}},
	{format.FnFreeAlignedSized, bpf.RawShapeOfFree, []string{"mi_free_size_aligned"}},
	{format.FnSdallocx, bpf.RawShapeOfFree, []string{"sdallocx_noflags", "je_sdallocx_noflags"}},
}

// maxAllocatorName is more than the longest name of the table has, in bytes.
const maxAllocatorName = 64

// allocatorName is what the table says about one name.
type allocatorName struct {
	fn    uint8
	shape bpf.RawShape
	rank  int // position in the table; the lowest wins
}

// allocatorNames is the table by name.
var allocatorNames = func() map[string]allocatorName {
	m := map[string]allocatorName{}
	for _, prefix := range namePrefixes {
		for _, row := range prefixed {
			for _, name := range row.names {
				m[prefix+name] = allocatorName{row.fn, row.shape, len(m)}
			}
		}
	}
	for _, row := range verbatim {
		for _, name := range row.names {
			m[name] = allocatorName{row.fn, row.shape, len(m)}
		}
	}
	return m
}()

// Function is an allocator function at one place of an object.
type Function struct {
	Name    string       // by the table's first name for this place
	Aliases []string     // other names of the same place
	Fn      uint8        // format.FnMalloc and so on
	Shape   bpf.RawShape // how its arguments and result are read
	Entry   Point        // moved to an emulated instruction if the return is not probed
	Return  Point        // of no meaning if !HasReturn

	// Forwards is set for a free that passes some blocks on to another one.
	Forwards bool
	// Recycles is set for a place that is no function but a call of free for
	// a block which was freed before.
	Recycles bool
}

// HasReturn reports whether the function's return must be probed, too: all
// but the frees'.
func (f Function) HasReturn() bool { return f.Shape != bpf.RawShapeOfFree }

// CookieForwards is set in the cookie of a free that now and then ends in a
// jump to another probed free, which the kernel reports as a second call. It
// has the same block, stack pointer and return address.
const CookieForwards = 1 << 16

// CookieRecycles is set in the cookie of a call of free that hands back a block
// which had been freed before, see recycles.
const CookieRecycles = 1 << 17

// Cookie is what the heap programs expect to get from
// bpf_get_attach_cookie: the function in the low byte, the shape in the next,
// then flags.
func (f Function) Cookie() uint64 {
	cookie := uint64(f.Shape)<<8 | uint64(f.Fn)
	if f.Forwards {
		cookie |= CookieForwards
	}
	if f.Recycles {
		cookie |= CookieRecycles
	}
	return cookie
}

// Object is an ELF file that defines an allocator.
type Object struct {
	Path      string // as the process names it
	OpenPath  string // by which this process can open it
	BuildID   string // in hexadecimal, or ""
	Functions []Function

	key fileKey
}

// fileKey identifies a file however it was named.
type fileKey struct {
	dev, ino uint64
}

// AllocatorFunctions returns the allocator functions that an ELF file
// defines, one for each place, in the order of the table; none if the file is
// no allocator. Frees that merely call another free are left out. name is what people know the file by.
//
// A file counts as an allocator if it defines malloc and free, under any of
// the known prefixes. C++ operators are taken only from such files: in plain
// libstdc++ they call malloc. The loader's own emergency malloc is not taken.
func AllocatorFunctions(e *ELF, name string, debugFiles bool) ([]Function, error) {
	dyn, err := e.Dynamic()
	if err != nil {
		return nil, err
	}
	if isLoader(dyn.SoName) {
		return nil, nil
	}
	found, err := allocatorSymbols(e, debugFiles)
	if err != nil || !definesAllocator(found) {
		return nil, err
	}
	calls := newFrees(e, found)
	var list []Function
	byOffset := map[uint64]int{}
	for _, s := range found {
		if i, ok := byOffset[s.Offset]; ok {
			list[i].Aliases = append(list[i].Aliases, s.Name)
			continue
		}
		f, code := newFunction(e, s, name)
		if !f.HasReturn() {
			switch calls.forwards(s, code) {
			case always:
				continue // the other one's probe tells it
			case sometimes:
				f.Forwards = true
			}
		}
		byOffset[s.Offset] = len(list)
		list = append(list, f)
	}
	again, err := recycles(e, dyn.SoName, name, found, debugFiles)
	return append(list, again...), err
}

// allocatorSymbols returns the symbols that the table knows, ordered by it.
func allocatorSymbols(e *ELF, debugFiles bool) ([]Symbol, error) {
	best := map[string]Symbol{}
	err := e.each(debugFiles, func(s Symbol) bool {
		if _, known := allocatorNames[s.Name]; known {
			if old, ok := best[s.Name]; !ok || better(s, old) {
				best[s.Name] = s
			}
		}
		return true
	})
	list := make([]Symbol, 0, len(best))
	for _, s := range best {
		list = append(list, s)
	}
	sort.Slice(list, func(i, j int) bool {
		return allocatorNames[list[i].Name].rank < allocatorNames[list[j].Name].rank
	})
	return list, err
}

// definesAllocator wants malloc and free of one family. Local symbols count
// if calloc and realloc are there as well: a linker's version script makes
// them local where an allocator is linked in, but any program may have a
// static function called free.
func definesAllocator(list []Symbol) bool {
	have := map[string]Symbol{}
	for _, s := range list {
		have[s.Name] = s
	}
	for _, prefix := range namePrefixes {
		m, okM := have[prefix+"malloc"]
		f, okF := have[prefix+"free"]
		if !okM || !okF {
			continue
		}
		_, okC := have[prefix+"calloc"]
		_, okR := have[prefix+"realloc"]
		if !m.Local && !f.Local || okC && okR {
			return true
		}
	}
	return false
}

// isLoader recognises glibc's dynamic loader. Before glibc 2.32 it exports a
// malloc that serves until libc is relocated, and never frees. musl's loader
// is its libc and has no such name.
func isLoader(soname string) bool {
	return strings.HasPrefix(soname, "ld-linux") || strings.HasPrefix(soname, "ld64.so") || strings.HasPrefix(soname, "ld.so")
}

// newFunction also returns the function's code.
func newFunction(e *ELF, s Symbol, file string) (Function, []byte) {
	row := allocatorNames[s.Name]
	f := Function{Name: s.Name, Fn: row.fn, Shape: row.shape}
	code, err := e.Code(s.Offset, int(min(s.Size, maxCode+1)))
	if err != nil {
		code = nil // then the probe stays at the entry
	}
	at := Place(e.Machine(), code)
	f.Entry = Point{
		Name: fmt.Sprintf("%s in %s", s.Name, file), Path: e.Path(),
		Offset: s.Offset + at.Delta, Placement: at,
	}
	if f.HasReturn() {
		f.Return = f.Entry
		f.Return.Return = true
	}
	return f, code
}
