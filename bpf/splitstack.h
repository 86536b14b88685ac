/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Stacks of many pieces (gcc -fsplit-stack). A thread that has them keeps the end of
 * the piece that it is on where its thread pointer has a place for it. There the piece
 * begins with where the one before is, and the stack pointer that the thread had on
 * it (struct stack_segment of libgcc's generic-morestack.c).
 *
 * As of signals, what is found that way decides no more than what is copied.
 */
#pragma once

#define PIECE_HEAD 56	   /* bytes, with what is of no use here */
#define PIECE_GUARD 0x70   /* from the thread pointer: the end, but for PIECE_RESERVE bytes */
#define PIECE_RESERVE 1536 /* BACKOFF of config/i386/morestack.S */
#define PIECE_SAVED 24	   /* bytes below old_sp: rbp and two return addresses */

static __always_inline __u64 left_of_piece(const struct piece *p, __u64 start, __u64 sp)
{
	__u64 at = sp - start, size = p->size + PIECE_HEAD;

	return p->size < NO_END && at >= PIECE_HEAD && at < size ? size - at : 0;
}

/* Bytes from sp to the end of the piece that it is on; 0 if it is on none. */
static __always_inline __u64 find_piece(struct task_struct *task, __u64 sp, struct piece *p)
{
#if defined(__TARGET_ARCH_x86)
	__u64 guard = 0;

	if (bpf_probe_read_user(&guard, sizeof(guard), (void *)(THREAD_POINTER(task) + PIECE_GUARD)) || !guard)
		return 0;
	guard = (guard - PIECE_RESERVE) & ~(USER_PAGE - 1ull);
	return bpf_probe_read_user(p, sizeof(*p), (void *)guard) ? 0 : left_of_piece(p, guard, sp);
#else
	return 0; /* gcc has them on amd64 only */
#endif
}

static long copy_piece(__u32 i, struct looking *l)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct piece *p = &l->at->piece;
	__u64 from = p->old_sp - PIECE_SAVED, start = p->before, left;

	if (!p->old_sp || from & 7)
		return 1;
	p->old_sp = 0;
	if (!start)
		left = stack_left(task, from, NO_END);
	else if (bpf_probe_read_user(p, sizeof(*p), (void *)start))
		return 1;
	else
		left = left_of_piece(p, start, from);
	return !left || !copy_part(l->at, i + 1, from, left) || l->at->copy.have < l->at->copy.most;
}

/* Copies all pieces of a stack. */
static __always_inline void copy_split(struct scratch *at, __u64 left)
{
	struct looking l = {.at = at};
	struct copy *c = &at->copy;

	at->snap.depth = SPLIT;
	c->ends = true;
	c->most = left < stack_bytes ? left : stack_bytes;
	if (c->have > c->most)
		c->have = c->most;
	copy_all(at);
	if (c->have + 8 > left)
		bpf_loop(PARTS - 1, copy_piece, &l, 0);
	c->most = c->have;
}
