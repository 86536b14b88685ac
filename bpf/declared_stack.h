/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Stacks at declared probes: those that the heap's are, by the same ways.
 */
#pragma once

/* Whether processes become targets when they hit a probe that wants the stack: where
 * there are no targets, nobody follows what they map, which stacks depend on. */
const volatile bool follow_hits = false;

static __always_inline void follow_hit(void)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (follow_hits && !is_target(pid))
		add_target(pid);
}

/* The stack of user code with these registers, or just its first frame. */
static __always_inline __u64 user_stack(struct pt_regs *ctx, bool inside, bool whole)
{
	struct scratch *at = take_scratch();
	struct stack *frames;
	__u64 id = 0;

	if (!at) {
		count_way(NoScratch);
		return 0;
	}
	frames = (struct stack *)&at->snap;
	if (!whole) {
		frames->ip[0] = first_frame(ctx, inside);
		id = frames->ip[0] ? stack_id(frames, 1) : 0;
	} else if (stacks_by == FramePointers) {
		id = walk_stack(ctx, frames, inside);
	} else if (stacks_by == Snapshots) {
		follow_hit();
		save_regs(ctx, &at->snap, inside);
		id = identify(at);
	}
	at->busy = 0;
	return id;
}

/* The stack, or caller, that a probe in user code wants. Others at the same place have the
 * same. */
static __always_inline __u64 stack_here(struct work *w)
{
	bool inside = w->p->flags & ProbeInside, whole = w->p->flags & ProbeStack;
	__u64 *id = whole ? &w->stack : &w->caller;

	if (w->inside != inside) {
		w->stack = w->caller = 0;
		w->inside = inside;
	}
	if (!*id)
		*id = user_stack(w->ctx, inside, whole);
	return *id;
}

/* The stack of user code from which the kernel was entered. */
static __always_inline __u64 stack_below(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!task->mm)
		return 0;
	return user_stack((struct pt_regs *)bpf_task_pt_regs(task), true, true);
}
