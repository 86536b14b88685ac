/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Handlers of signals on a stack of their own (sigaltstack). The kernel knows
 * where that is, and has put a frame at its end that tells where the thread was. The
 * copy of the stack goes on there, so that it has all callers to main.
 *
 * Which frame that is decides no more than what is copied: unwinding finds its
 * way from the handler by itself, and looks for its words where they are.
 */
#pragma once

/* Words from where a signal's frame names the stack for signals (uc_stack.ss_sp) to where it
 * has the stack pointer (uc_mcontext). */
#if defined(__TARGET_ARCH_x86)
#define TO_SAVED_SP 18
#else
#define TO_SAVED_SP 52
#endif

#define BELOW_SP 128 /* bytes that a function may use there: the red zone */

/* Bytes from sp to the end of the stack for signals; 0 if sp is not in it. */
static __always_inline __u32 signal_stack_left(struct task_struct *task, __u64 sp)
{
	__u64 size = task->sas_ss_size, at = sp - task->sas_ss_sp;

	/* As in on_sig_stack of the kernel; no copy is so large. */
	return at - 1 < size && size - at <= MAX_STACK_BYTES ? size - at : 0;
}

struct interrupted {
	struct snapshot *s;
	struct copy *c;
	__u64 start, size; /* of the stack for signals */
	__u64 sp;	   /* where the thread was; 0: not found */
};

/* The frame is the outermost of those that name this stack and come from elsewhere. */
static long find_signal(__u32 i, struct interrupted *r)
{
	__u32 at = SAVED_REGS + r->c->have / 8 - 1 - i;
	const __u64 *w = r->s->words;
	__u64 sp;

	asm volatile("" : "+r"(at)); /* as in copy_more */
	if (at < SAVED_REGS + TO_SAVED_SP || at >= SAVED_REGS + MAX_STACK_BYTES / 8)
		return 1;
	sp = w[at];
	if (w[at - TO_SAVED_SP] != r->start || w[at - TO_SAVED_SP + 2] != r->size || sp - r->start - 1 < r->size)
		return 0;
	r->sp = sp;
	return 1;
}

/* Copies what a signal interrupted behind the copy of all of its own stack. */
static __always_inline void copy_interrupted(struct task_struct *task, struct scratch *at)
{
	struct snapshot *s = &at->snap;
	struct copy *c = &at->copy;
	struct interrupted r = {.s = s, .c = c, .start = task->sas_ss_sp, .size = task->sas_ss_size};
	__u32 first = c->have;
	__u64 from;

	bpf_loop(first / 8, find_signal, &r, 0);
	if (!r.sp)
		return;
	/* Below it may be a page that was never used. */
	from = r.sp & (USER_PAGE - 1) & ~(BELOW_SP - 1) ? (r.sp - BELOW_SP) & ~7ull : r.sp & ~(USER_PAGE - 1ull);
	if (copy_part(at, 1, from, stack_left(task, from, NO_END)))
		s->depth = first | SIGNALED;
	c->most = c->have;
}
