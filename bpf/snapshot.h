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

struct scratch {
	__u32 busy;
	__u32 pad;
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

/* What of a stack is copied so far. */
struct copy {
	__u64 sp;
	__u32 most; /* bytes that there may be */
	__u32 have; /* bytes that are copied */
};

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

/* Copies all that there is: up to what can be read, page by page if need be. */
static __always_inline void copy_all(struct snapshot *s, struct copy *c)
{
	if (copy_more(s, c, c->most))
		return;
	for (int i = 0; i <= MAX_STACK_BYTES / 4096; i++) {
		__u64 to = ((c->sp + c->have) | 4095) + 1 - c->sp;

		if (to >= c->most || !copy_more(s, c, to))
			break;
	}
	/* What cannot be read is zeros, from where the copy began: once more, then. */
	c->most = c->have;
	c->have = c->have < FIRST_BYTES ? 0 : FIRST_BYTES;
	copy_more(s, c, c->most);
	c->most = c->have;
}

#include "signalstack.h"
#include "learned.h"

#define PENDING_RETURNS 64 /* as many as the kernel allows */

/*
 * The kernel has the return addresses of calls whose return is probed; on the
 * stack is its trampoline's. Calls that were chained by jumps share a place; the
 * outermost, which comes last, has the address.
 */
static __always_inline void restore_returns(struct task_struct *task, struct snapshot *s, struct copy *c)
{
	struct return_instance *ri = BPF_CORE_READ(task, utask, return_instances);
	__u64 trampoline = BPF_CORE_READ(task, mm, uprobes_state.xol_area, vaddr);

	for (int i = 0; i < PENDING_RETURNS && ri; i++) {
		__u64 at = place_of(s, c, BPF_CORE_READ(ri, stack)), to = BPF_CORE_READ(ri, orig_ret_vaddr);
		__u32 word = SAVED_REGS + at / 8;

		if (at < c->have && !(at & 7) && word < SAVED_REGS + MAX_STACK_BYTES / 8 && to != trampoline &&
		    s->words[word] == trampoline)
			s->words[word] = to;
		ri = BPF_CORE_READ(ri, next);
	}
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

/*
 * The signature of a stack: a hash of those words, with their places, that unwinding
 * can depend on. These are the return addresses, which point to code, and
 * frame addresses, which point to the stack and count as their distance from
 * sp; of registers the latter. All else may differ. Of what points there many
 * a word is a leftover, so one stack can have many signatures; but what has
 * one signature is one stack.
 */
struct hashing {
	const struct snapshot *s;
	const struct code *code; /* NULL: not known, and every word may point to code */
	__u64 sp;
	__u64 hash;
	__u32 first; /* bytes from sp on */
	__u32 rest;  /* bytes from s->rest on */
	__u32 words; /* with the registers */
};

#define HASH_WORDS 8 /* at once */

static long hash_words(__u32 block, struct hashing *h)
{
	__u64 hash = h->hash;

	for (__u32 k = 0; k < HASH_WORDS; k++) {
		__u32 i = block * HASH_WORDS + k;
		__u64 w, d;

		asm volatile("" : "+r"(i)); /* as in copy_more */
		if (i >= h->words || i >= SAVED_REGS + MAX_STACK_BYTES / 8)
			break;
		w = h->s->words[i];
		d = w - h->sp;
		if (d >= h->first && w - h->s->rest < h->rest) {
			d = (w - h->s->rest) | 1ull << 62;
		} else if (d >= h->first) {
			if (i < KEPT_REGS || w < 1 << GRAIN_BITS || (h->code && !is_code(h->code, w)))
				continue;
			d = ~w;
		}
		hash = (hash ^ d ^ ((__u64)i << 48)) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 32;
	}
	h->hash = hash;
	return 0;
}

static __always_inline __u64 signature(const struct snapshot *s, const struct copy *c, const struct code *code)
{
	struct hashing h = {.s = s, .code = code, .sp = c->sp, .words = SAVED_REGS + c->have / 8};

	h.first = s->first ? s->first : c->have;
	h.rest = c->have - h.first;
	h.hash = ((__u64)s->code << 32) ^ c->have ^ (s->caller * 0x9e3779b97f4a7c15ull);
	h.hash ^= (__u64)h.rest << 16;
	bpf_loop((h.words + HASH_WORDS - 1) / HASH_WORDS, hash_words, &h, 0);
	return h.hash ? h.hash : 1;
}

/* Sends the snapshot if it was not sent yet. */
static __always_inline void send_snapshot(struct snapshot *s, const struct copy *c)
{
	__u64 size = c->have;
	__u8 one = 1;

	if (bpf_map_lookup_elem(&signatures, &s->id))
		return;
	fill(&s->hdr, Snapshot);
	s->hdr.aux = size;
	asm volatile("" : "+r"(size)); /* as in copy_more */
	if (size > MAX_STACK_BYTES)
		return;
	size += offsetof(struct snapshot, words) + SAVED_REGS * 8;
	if (bpf_ringbuf_output(&events, s, size, BPF_RB_FORCE_WAKEUP)) {
		count_lost(Snapshot);
		return;
	}
	count_way(Sent);
	bpf_map_update_elem(&signatures, &s->id, &one, BPF_ANY);
}

/* The id of the current task's stack, whose registers are saved. */
static __noinline __u64 identify(struct scratch *at)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct snapshot *s = &at->snap;
	__u64 mm = (__u64)task->mm, sp = s->sp, left, id;
	__u32 signal = signal_stack_left(task, sp);
	struct code *code = add_code(mm);
	struct copy c = {.sp = sp};

	left = signal ? signal : stack_left(task, sp, NO_END);
	c.most = (left < stack_bytes ? left : stack_bytes) & ~7;
	if (left == NO_END && c.most > ENDLESS_BYTES)
		c.most = ENDLESS_BYTES;
	s->depth = !signal && left < 1 << 16 ? left : 0;
	s->rest = s->first = 0;
	s->code = code ? code->number : 0;
	if (!copy_more(s, &c, c.most < FIRST_BYTES ? c.most : FIRST_BYTES))
		copy_all(s, &c);
	if (!c.have)
		return 0;
	if (signal) {
		copy_all(s, &c);
		if (c.have + 8 > signal)
			copy_interrupted(task, s, &c);
	}
	if (!s->caller) /* it is on the stack */
		s->caller = s->words[SAVED_REGS];
	if (BPF_CORE_READ(task, utask, return_instances)) {
		copy_all(s, &c);
		restore_returns(task, s, &c);
	}
	if (code && (id = learned_stack(s, &c)))
		return id;
	copy_all(s, &c);
	count_way(Scanned);
	s->id = signature(s, &c, code && code->whole ? code : NULL);
	id = s->id;
	send_snapshot(s, &c);
	return id;
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
