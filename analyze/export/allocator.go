package export

import "regexp"

// allocatorFrames are the functions that stand between a program and its
// allocator: whoever asks what allocates does not mean them. The names are those
// of libc, libstdc++, libc++, Rust's alloc, jemalloc, tcmalloc and mimalloc.
// Reports leave them out at the inner end of stacks, and so does pprof, which
// gets the expression as a profile's drop_frames; it sees names without their
// template arguments.
const allocatorFrames = `(?:__libc_)?(?:malloc|calloc|realloc|reallocarray|posix_memalign|aligned_alloc|memalign|valloc|pvalloc)` +
	`|operator new(?:\[\])?(?:\(.*\))?|_Zn[wa]m.*` +
	`|(?:__gnu_cxx|std)::(?:__)?new_allocator(?:<.*>)?::.*|std::allocator_traits(?:<.*>)?::.*|std::allocator(?:<.*>)?::allocate.*` +
	`|std::__1::(?:allocator|allocator_traits|__allocate_at_least|__libcpp_(?:operator_new|allocate))\b.*` +
	`|(?:__rustc::)?__r(?:ust|dl|g)_(?:alloc|alloc_zeroed|realloc)|<?alloc::alloc::.*` +
	`|(?:je_|_rjem_)?(?:mallocx|rallocx)|je_.*alloc.*|tc_(?:new|malloc|calloc|realloc|memalign).*|mi_(?:malloc|calloc|realloc|zalloc|new).*`

var isAllocator = regexp.MustCompile(`^(?:` + allocatorFrames + `)$`)

// WithoutAllocator returns a stack without the allocator's own frames at its
// inner end. The outermost frame stays, whatever it is.
func WithoutAllocator(stack []Frame) []Frame {
	for len(stack) > 1 && isAllocator.MatchString(stack[0].Function) {
		stack = stack[1:]
	}
	return stack
}

// TrimAllocator returns the samples with their stacks as [WithoutAllocator]
// leaves them.
func TrimAllocator(samples []Sample) []Sample {
	out := make([]Sample, len(samples))
	for i, s := range samples {
		out[i] = Sample{Stack: WithoutAllocator(s.Stack), Values: s.Values}
	}
	return out
}
