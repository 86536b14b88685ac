/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Stacks without frame pointers. The stack's memory is copied, told apart by
 * its signature, sent once, and unwound in user space, which tells what of such
 * a stack it looked at (learned.h): the next one that is the same there is the
 * same stack. See docs/stacks.md.
 */
#pragma once

/* Copies of a stack that can be under way on a CPU: programs on uprobes can be
 * preempted by another thread's. */
#define SCRATCHES 4

/* What of a stack is copied so far. */
struct copy {
	__u64 sp;
	__u32 most; /* bytes that there may be */
	__u32 have; /* bytes that are copied */
	__u32 ends; /* whether most is known from where the stack ends */
	__u32 holes; /* pages that cannot be read, and may be left out */
	__u32 solid; /* bytes up to the last that was read */
	__u32 pad;
	__u64 base; /* the address of byte 0, if all were where the present part is */
};

/* See signature. */
struct hashing {
	__u64 sp;
	__u64 hash;
	__u64 last;    /* the last part's begin */
	__u64 between; /* where the others are, from the lowest on */
	__u64 width;   /* bytes */
	__u32 first;   /* bytes of the first part */
	__u32 rest;    /* bytes of the last, if that is another */
	__u32 words;   /* with the registers */
	__u32 pad;
};

/* See pack. */
struct packing {
	__u32 out;   /* words so far */
	__u32 masks; /* where those of these 64 are */
	__u64 there, not_zero;
};

/* See splitstack.h. */
struct piece {
	__u64 before; /* the piece; 0: the stack that the thread began with */
	__u64 next;
	__u64 size;
	__u64 old_sp; /* on the piece before; 0: there is none */
};

/* All that work on a stack needs, since the BPF stack has 512 bytes. */
struct scratch {
	__u32 busy;
	__u32 pad;
	struct copy copy;
	struct hashing hashing;
	struct packing packing;
	struct piece piece;
	struct snapshot snap;
};

/* SCRATCHES for each CPU; set at load. They are the CPU's rather than the
 * thread's so that they stay in its cache, and for want of memory for thousands
 * of threads. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* Signatures whose snapshots were sent. Those that were not used for the longest
 * time make room, and are sent again: more bytes, never a wrong stack. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, __u64);
	__type(value, __u8);
} signatures SEC(".maps");

const volatile __u32 stack_bytes = MAX_STACK_BYTES; /* of a copy, at most; a multiple of 8 */

#define NO_END (1 << 26)	/* no stack that is in use is so deep */
#define ENDLESS_BYTES (8 << 10) /* of a copy where the stack's end is not known, at most */
#define FIRST_BYTES 1024 /* what is copied before more is known to be needed */

/* How stacks were told, to see what it costs. The first is counted by user space. */
enum { Scanned, Sent, NoScratch, Ways };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, Ways);
	__type(key, __u32);
	__type(value, __u64);
} ways SEC(".maps");

static __always_inline void count_way(__u32 way)
{
	__u64 *n = bpf_map_lookup_elem(&ways, &way);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline struct scratch *take_scratch(void)
{
	__u32 first = bpf_get_smp_processor_id() * SCRATCHES;

	for (int i = 0; i < SCRATCHES; i++) {
		__u32 slot = first + i;
		struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);

		if (s && !s->busy && !__sync_val_compare_and_swap(&s->busy, 0, 1))
			return s;
	}
	return NULL;
}

/*
 * How far it is from sp to where the stack ends, if that is within most bytes; most
 * otherwise. The first thread's ends below its arguments. Others have their
 * thread control block, to which their thread pointer points, right above the stack
 * in glibc and musl. Another stack, of a coroutine or a signal, is as long as can be
 * read.
 */
static __always_inline __u64 stack_left(struct task_struct *task, __u64 sp, __u64 most)
{
	__u64 left = task->mm->start_stack - sp;

	if (left < most)
		most = left;
	left = THREAD_POINTER(task) - sp;
	return left < most ? left : most;
}

/* Copies up to byte `to`. It begins at one of two places, whatever is there
 * already, since the verifier wants to see a place and a bound. */
static __always_inline bool copy_more(struct snapshot *s, struct copy *c, __u32 to)
{
	asm volatile("" : "+r"(to)); /* or the bound is checked of one register, and another used */
	if (to > c->most)
		return false;
	if (to <= c->have)
		return true;
	if (c->have < FIRST_BYTES) {
		if (to > MAX_STACK_BYTES || bpf_probe_read_user(&s->words[SAVED_REGS], to, (void *)c->sp))
			return false;
	} else {
		__u32 n = to - FIRST_BYTES;

		if (n > MAX_STACK_BYTES - FIRST_BYTES ||
		    bpf_probe_read_user(&s->words[SAVED_REGS + FIRST_BYTES / 8], n, (void *)(c->sp + FIRST_BYTES)))
			return false;
	}
	c->have = to;
	return true;
}

#define USER_PAGE 4096 /* pages are no smaller */

#define HOLES 32 /* in a copy */

/* What memory that cannot be read is copied as: addresses of nothing. */
static const __u8 unread[USER_PAGE] = {[0 ... USER_PAGE - 1] = 0xff};

/* What the functions have that bpf_loop calls. */
struct looking {
	struct scratch *at;
	const struct code *code; /* NULL: not known, and every word may point to code */
};

/* Copies up to the end of a page. */
static long copy_page(__u32 i, struct looking *l)
{
	struct copy *c = &l->at->copy;
	__u32 have = c->have, n;
	__u64 from = c->base + have;
	void *to;

	n = USER_PAGE - (from & (USER_PAGE - 1));
	if (n > c->most - have)
		n = c->most - have;
	asm volatile("" : "+r"(n), "+r"(have));
	if (!n || n > USER_PAGE || have > MAX_STACK_BYTES - USER_PAGE)
		return 1;
	to = (void *)&l->at->snap.words[SAVED_REGS] + have;
	if (!bpf_probe_read_user(to, n, (void *)from))
		c->solid = have + n;
	else if (!c->holes)
		return 1;
	else {
		c->holes--;
		bpf_probe_read_kernel(to, n, unread);
	}
	c->have = have + n;
	return 0;
}

/*
 * Copies page by page, up to what can be read. A page in the midst of a stack
 * whose end is known may be one that no function has used yet, of a large array say; what
 * is behind it counts.
 */
static __always_inline void copy_pages(struct scratch *at, __u64 base, bool ends)
{
	struct looking l = {.at = at};
	struct copy *c = &at->copy;

	c->base = base;
	c->holes = ends ? HOLES : 0;
	c->solid = c->have;
	bpf_loop(MAX_STACK_BYTES / USER_PAGE + 2, copy_page, &l, 0);
	c->most = c->have = c->solid;
}

/* Copies all that there is. */
static __always_inline void copy_all(struct scratch *at)
{
	struct copy *c = &at->copy;

	if (at->snap.others || copy_more(&at->snap, c, c->most))
		return;
	/* What cannot be read is zeros, from where the copy began. */
	c->have = c->have < FIRST_BYTES ? 0 : FIRST_BYTES;
	copy_pages(at, c->sp, c->ends);
}

/* Copies another part of the stack behind what there is, from an address to the end of that stack,
 * which is left bytes away. Reports whether there is any of it. */
static __always_inline bool copy_part(struct scratch *work, __u32 n, __u64 start, __u64 left)
{
	struct snapshot *s = &work->snap;
	struct copy *c = &work->copy;
	__u32 before = c->have;
	bool ends = left != NO_END;

	if (!ends)
		left = ENDLESS_BYTES;
	if (!before || before >= stack_bytes || n >= PARTS)
		return false;
	c->most = (left < stack_bytes - before ? before + left : stack_bytes) & ~7;
	left = c->most;
	copy_pages(work, start - before, ends);
	c->most = left;
	if (c->have == before)
		return false;
	asm volatile("" : "+r"(n)); /* as in copy_more */
	n &= PARTS - 1;
	s->parts[n].start = start;
	s->parts[n].from = before;
	s->others = n;
	return true;
}

#include "signalstack.h"
#include "splitstack.h"
#include "learned.h"

#define PENDING_RETURNS 64 /* as many as the kernel allows */

struct restoring {
	struct snapshot *s;
	struct copy *c;
	struct return_instance *ri;
	__u64 trampoline;
};

/* How far behind the copy's begin the word is that it has of an address; if none, too far. */
static __always_inline __u64 place_of(const struct snapshot *s, const struct copy *c, __u64 addr)
{
	__u64 end = c->have;

	for (__u32 n = PARTS; n--;) {
		__u64 from = n ? s->parts[n].from : 0, at = addr - s->parts[n].start;

		if (n && !from)
			continue;
		if (at < end - from)
			return from + at;
		end = from;
	}
	return ~0ull;
}

static long restore_return(__u32 i, struct restoring *r)
{
	struct return_instance *ri = r->ri;
	__u64 at, to;
	__u32 word;

	if (!ri)
		return 1;
	at = place_of(r->s, r->c, BPF_CORE_READ(ri, stack));
	to = BPF_CORE_READ(ri, orig_ret_vaddr);
	word = SAVED_REGS + at / 8;
	if (at < r->c->have && !(at & 7) && word < SAVED_REGS + MAX_STACK_BYTES / 8 && to != r->trampoline &&
	    r->s->words[word] == r->trampoline)
		r->s->words[word] = to;
	r->ri = BPF_CORE_READ(ri, next);
	return 0;
}

/*
 * The kernel has the return addresses of calls whose return is probed; on the
 * stack is its trampoline's. Calls that were chained by jumps share a place; the
 * outermost, which comes last, has the address.
 */
static __always_inline void restore_returns(struct task_struct *task, struct scratch *at)
{
	struct restoring r = {.s = &at->snap, .c = &at->copy};

	r.ri = BPF_CORE_READ(task, utask, return_instances);
	if (!r.ri)
		return;
	copy_all(at);
	r.trampoline = BPF_CORE_READ(task, mm, uprobes_state.xol_area, vaddr);
	bpf_loop(PENDING_RETURNS, restore_return, &r, 0);
}

/* Begins a snapshot with the registers: of a thread that enters a function or, inside,
 * that is in one. */
static __always_inline void save_regs(struct pt_regs *ctx, struct snapshot *s, bool inside)
{
	__u64 *w = s->words;

	s->sp = PT_REGS_SP(ctx);
	s->caller = inside ? INSIDE | PT_REGS_IP(ctx) : 0;
#if defined(__TARGET_ARCH_x86)
	w[0] = ctx->bx;
	w[1] = ctx->bp;
	w[2] = ctx->r12;
	w[3] = ctx->r13;
	w[4] = ctx->r14;
	w[5] = ctx->r15;
#else
	for (int i = 0; i < SAVED_REGS; i++)
		w[i] = ((struct user_pt_regs *)ctx)->regs[19 + i];
	if (!inside)
		s->caller = PT_REGS_RET(ctx);
#endif
}

#include "signature.h"

static __always_inline void forget_parts(struct snapshot *s)
{
	for (__u32 i = 1; s->others && i < PARTS; i++)
		s->parts[i].from = 0;
	s->others = 0;
}

/*
 * Copies what is needed at first of the current task's stack, whose registers are
 * saved, or all of it where it is not in one piece. Reports whether there is any.
 * (Work on a stack is cut into functions for the sake of the BPF stack, which they have
 * one after the other.)
 */
static __noinline bool copy_stack(struct scratch *at, const struct code *code)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct snapshot *s = &at->snap;
	struct copy *c = &at->copy;
	__u64 sp = s->sp, left, pieces = 0;
	__u32 signal = signal_stack_left(task, sp);

	if (code && code->split && !signal)
		pieces = find_piece(task, sp, &at->piece);
	left = signal ? signal : pieces ? pieces : stack_left(task, sp, NO_END);
	c->ends = left != NO_END;
	c->most = (left < stack_bytes ? left : stack_bytes) & ~7;
	if (!c->ends && c->most > ENDLESS_BYTES)
		c->most = ENDLESS_BYTES;
	s->depth = !signal && left < 1 << 16 ? left : 0;
	s->code = code ? code->number : 0;
	forget_parts(s);
	s->parts[0].start = c->sp = sp;
	c->have = 0;
	if (!copy_more(s, c, c->most < FIRST_BYTES ? c->most : FIRST_BYTES))
		copy_all(at);
	if (!c->have)
		return false;
	if (signal) {
		copy_all(at);
		if (c->have + 8 > signal)
			copy_interrupted(task, at);
	} else if (pieces)
		copy_split(at, pieces);
	if (!s->caller) /* it is on the stack */
		s->caller = s->words[SAVED_REGS];
	restore_returns(task, at);
	return true;
}

/* Copies all of a stack that was not recognised. That there are stacks of pieces is found out
 * here. */
static __noinline void copy_rest(struct scratch *at, struct code *code)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 sp = at->snap.sp, pieces;

	if (code && !code->split && !signal_stack_left(task, sp) && (pieces = find_piece(task, sp, &at->piece))) {
		code->split = 1;
		copy_split(at, pieces);
		restore_returns(task, at);
	}
	copy_all(at);
}

/* Gives a stack its signature, and has it unwound. */
static __noinline __u64 sign(struct scratch *at, const struct code *code)
{
	struct looking l = {.at = at};
	__u64 id;

	count_way(Scanned);
	if (code && code->whole)
		l.code = code;
	at->snap.id = id = signature(&l);
	send_snapshot(&l);
	return id;
}

/* The id of the current task's stack, whose registers are saved. */
static __always_inline __u64 identify(struct scratch *at)
{
	struct code *code = add_code((__u64)current_mm());
	__u64 id;

	if (!copy_stack(at, code))
		return 0;
	if (code && (id = learned_stack(at)))
		return id;
	copy_rest(at, code);
	return sign(at, code);
}

/* The stack at a function's entry, as an id. */
static __always_inline __u64 snapshot_stack(struct pt_regs *ctx)
{
	struct scratch *s = take_scratch();
	__u64 id;

	if (!s) {
		count_way(NoScratch);
		return 0;
	}
	save_regs(ctx, &s->snap, false);
	id = identify(s);
	s->busy = 0;
	return id;
}
