/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Heap calls. An allocation is an interval: arguments are read at the entry,
 * the result at the return. Allocators call themselves (realloc jumps to
 * malloc, musl's calloc calls it): the outermost call wins, told by the stack
 * pointer, which needs no counter that a longjmp could leave wrong.
 */
#pragma once

#if defined(__TARGET_ARCH_x86)
#define RET_SP 8 /* the return popped its address */
#else
#define RET_SP 0
#endif

/* Stacks whose frames user space has. When full, stacks are sent again: more
 * bytes, never wrong ones. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u8);
} stacks SEC(".maps");

/* How stacks are taken. */
enum { NoStacks, FramePointers, Snapshots };
const volatile __u32 stacks_by = FramePointers;

/* The recorder's own process. What carries the programs is bound to it, so that
 * it would be recorded where it has a libc of its own and not as a target. */
const volatile __u32 recorder = 0;

#define PAGE_OFFSETS 4096
#define TABLES 64

/*
 * Which function is probed where. All entries share one trace event, since each
 * event costs every thread of the targets a perf event; the place then tells the
 * function, by its offset in the page, which address space randomization leaves
 * alone. Functions that would share a slot are in events, and tables, of their
 * own; the cookie is the table's number.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TABLES * PAGE_OFFSETS);
	__type(key, __u32);
	__type(value, __u32);
} functions SEC(".maps");

/* The function probed here: its number, shape and flags; 0 if there is none. */
static __always_inline __u32 function(struct pt_regs *ctx)
{
	__u32 slot = (__u32)bpf_get_attach_cookie(ctx) * PAGE_OFFSETS + (PT_REGS_IP(ctx) & (PAGE_OFFSETS - 1));
	__u32 *f = bpf_map_lookup_elem(&functions, &slot);

	return f ? *f : 0;
}

/* hash of the frames; 64 bits make a collision among a million stacks a matter
 * of 3 in 100 million. */
static __always_inline __u64 hash_frames(const struct stack *s, __u32 n)
{
	__u64 h = n;

	for (int i = 0; i <= MAX_FRAMES; i++) {
		if (i >= n)
			break;
		h ^= s->ip[i];
		h *= 0x9e3779b97f4a7c15ull;
		h ^= h >> 32;
	}
	return h ? h : 1;
}

static __always_inline void send_stack(struct stack *s, __u32 n)
{
	__u64 size;
	__u8 one = 1;

	fill(&s->hdr, Stack);
	s->hdr.aux = n;
	asm volatile("%0 &= %1" : "+r"(n) : "i"(MAX_FRAMES)); /* a bound that the verifier sees */
	size = offsetof(struct stack, ip) + (__u64)n * sizeof(__u64);
	if (bpf_ringbuf_output(&events, s, size, BPF_RB_NO_WAKEUP)) {
		count_lost(Stack);
		return;
	}
	bpf_map_update_elem(&stacks, &s->hash, &one, BPF_ANY);
}

/* A frame as compilers lay it out that keep frame pointers. */
struct frame {
	__u64 next;
	__u64 ret;
};

#define MAX_FRAME_BYTES (8 << 20) /* of one function: the usual limit of a whole stack */

/* Whether fp can be a frame pointer where the stack was at sp before. Where
 * programs keep none, the register holds anything, and to read from there would
 * be a page fault, which costs more than the probe. */
static __always_inline bool is_frame(__u64 fp, __u64 sp)
{
	return fp > sp && fp - sp < MAX_FRAME_BYTES && !(fp & 7);
}

/* Where a stack begins: at the return address of a function that is entered, which the
 * function has not moved yet, or inside one, in front of the next instruction, as
 * addresses in a stack are one behind what they tell of. 0 if it cannot be read. */
static __always_inline __u64 first_frame(struct pt_regs *ctx, bool inside)
{
	__u64 caller = 0;

	if (inside)
		return PT_REGS_IP(ctx) + 1;
#if defined(__TARGET_ARCH_x86)
	bpf_probe_read_user(&caller, sizeof(caller), (void *)PT_REGS_SP(ctx));
#else
	caller = PT_REGS_RET(ctx);
#endif
	return caller;
}

/* The id of the n frames in s, which are sent if they are new. */
static __always_inline __u64 stack_id(struct stack *s, __u32 n)
{
	s->hash = hash_frames(s, n);
	if (!bpf_map_lookup_elem(&stacks, &s->hash))
		send_stack(s, n);
	return s->hash;
}

/*
 * The stack at a function's entry, or inside one, as an id. The caller is told by
 * the return address and the rest by frame pointers, each above the one before:
 * where a program keeps none, the walk ends at the first that leads nowhere.
 * (bpf_get_stack misses the caller here, and faults where there is no frame
 * pointer.)
 */
static __always_inline __u64 walk_stack(struct pt_regs *ctx, struct stack *s, bool inside)
{
	/* Inside a function, the stack may end with its frame. */
	__u64 fp = PT_REGS_FP(ctx), sp = PT_REGS_SP(ctx) - (inside ? 8 : 0);
	struct frame f;
	__u32 n = 1;

	s->ip[0] = first_frame(ctx, inside);
	if (!s->ip[0])
		return 0;
	for (int i = 1; i < MAX_FRAMES; i++) {
		if (!is_frame(fp, sp) || bpf_probe_read_user(&f, sizeof(f), (void *)fp) || f.ret < 0x1000)
			break;
		s->ip[i] = f.ret;
		n = i + 1;
		sp = fp;
		fp = f.next;
	}
	return stack_id(s, n);
}

/* 0 also where frames have no room. */
static __always_inline __u64 take_stack(struct pt_regs *ctx, struct stack *room)
{
	switch (stacks_by) {
	case FramePointers:
		return room ? walk_stack(ctx, room, false) : 0;
	case Snapshots:
		return snapshot_stack(ctx);
	}
	return 0;
}

/* The size of an array. One that does not fit fails, and must look neither small
 * nor, for realloc, like nothing. */
static __always_inline __u64 array_size(__u64 n, __u64 size)
{
	__u64 most = n ? ~0ull / n : ~0ull;

	/* Or clang sees an overflow check, for which it multiplies 128 bits. */
	asm volatile("" : "+r"(most));
	return size > most ? ~0ull : n * size;
}

static __always_inline void read_args(struct pt_regs *ctx, struct call *c)
{
	switch (c->shape) {
	case OfSize:
		c->size = PT_REGS_PARM1(ctx);
		break;
	case OfCalloc:
		c->size = array_size(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
		break;
	case OfAlign:
		c->size = PT_REGS_PARM2(ctx);
		break;
	case OfPosix:
		c->ptr = PT_REGS_PARM1(ctx);
		c->size = PT_REGS_PARM3(ctx);
		break;
	case OfRealloc:
		c->ptr = PT_REGS_PARM1(ctx);
		c->size = PT_REGS_PARM2(ctx);
		c->entry = bpf_ktime_get_ns();
		break;
	case OfReallocarray:
		c->ptr = PT_REGS_PARM1(ctx);
		c->size = array_size(PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx));
		c->entry = bpf_ktime_get_ns();
		break;
	}
}

SEC("uprobe")
int heap_enter(struct pt_regs *ctx)
{
	__u64 sp = PT_REGS_SP(ctx);
	__u32 fn = function(ctx);
	struct stack *room;
	struct state *s;

	if (bpf_get_current_pid_tgid() >> 32 == recorder)
		return 0;
	s = this_state(&room);
	if (!s || !fn) {
		count_lost(Alloc); /* and those within it: nobody tells them apart then */
		return 0;
	}
	if (s->call.sp && sp <= s->call.sp && call_runs(&s->call))
		return 0; /* the outer call tells it all */
	s->freed = 0;
	s->call.fn = (__u8)fn;
	s->call.shape = fn >> 8;
	read_args(ctx, &s->call);
	s->call.stack = take_stack(ctx, room);
	s->call.sp = sp;
	return 0;
}

static __always_inline void emit_alloc(const struct call *c, __u64 addr)
{
	struct alloc *e = RESERVE(alloc, Alloc);

	if (!e)
		return;
	e->hdr.fn = c->fn;
	e->addr = addr;
	e->size = c->size;
	e->stack = c->stack;
	SUBMIT(e);
}

static __always_inline void emit_realloc(const struct call *c, __u64 addr)
{
	struct realloc *e = RESERVE(realloc, Realloc);

	if (!e)
		return;
	e->hdr.fn = c->fn;
	e->old = c->ptr;
	e->addr = addr;
	e->size = c->size;
	e->stack = c->stack;
	e->entry = c->entry;
	SUBMIT(e);
}

static __always_inline void emit_free(__u8 fn, __u64 addr)
{
	struct free *e = RESERVE(free, Free);

	if (!e)
		return;
	e->hdr.fn = fn;
	e->addr = addr;
	SUBMIT(e);
}

/* Tells what a call did, whose result is given. */
static __always_inline void tell_call(const struct call *c, __u64 ret)
{
	if (c->shape == OfPosix) {
		if ((__u32)ret)
			return;
		if (bpf_probe_read_user(&ret, sizeof(ret), (void *)c->ptr)) {
			count_lost(Alloc);
			return;
		}
	}
	if (c->shape == OfRealloc || c->shape == OfReallocarray) {
		if (c->ptr) {
			if (ret)
				emit_realloc(c, ret);
			else if (!c->size) /* realloc(p, 0) freed p; otherwise it failed and p lives */
				emit_free(c->fn, c->ptr);
			return;
		}
	}
	if (ret)
		emit_alloc(c, ret);
}

SEC("uretprobe")
int heap_return(struct pt_regs *ctx)
{
	struct stack *unused;
	struct state *s = known_state(&unused);

	if (!s || !s->call.sp || PT_REGS_SP(ctx) != s->call.sp + RET_SP)
		return 0; /* an inner call's return */
	s->call.sp = 0;
	tell_call(&s->call, PT_REGS_RC(ctx));
	leave_crowd();
	return 0;
}

/* Whether the free is the second half of one that handed its block on. */
static __always_inline bool handed_on(struct state *s, __u64 addr, __u64 sp)
{
	bool same = s->freed == addr && s->freed_sp == sp;

	s->freed = 0;
	leave_crowd();
	return same;
}

SEC("uprobe")
int heap_free(struct pt_regs *ctx)
{
	__u32 fn = function(ctx);
	__u64 addr = PT_REGS_PARM1(ctx), sp = PT_REGS_SP(ctx);
	struct stack *unused;
	struct state *s;

	if (!addr || bpf_get_current_pid_tgid() >> 32 == recorder)
		return 0;
	if (fn & RECYCLES) { /* before the call: the free comes next */
		s = this_state(&unused);
		if (s) {
			s->freed = addr;
			s->freed_sp = sp - RET_SP;
		}
		return 0;
	}
	s = known_state(&unused);
	if (s) {
		if (s->call.sp && sp <= s->call.sp && call_runs(&s->call))
			return 0;
		if (s->freed && !(fn & FORWARDS) && handed_on(s, addr, sp))
			return 0;
	}
	if ((fn & FORWARDS) && (s = this_state(&unused))) {
		s->freed = addr;
		s->freed_sp = sp;
	}
	emit_free((__u8)fn, addr);
	return 0;
}
