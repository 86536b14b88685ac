/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Stacks at declared probes: those that the heap's are, by the same ways.
 */
#pragma once

/* Whether processes become targets when they hit a probe that tells of places in code:
 * where there are no targets, nobody follows what they map, which names depend on. */
const volatile bool follow_hits = false;

/* Whether any declared probe tells of the stack or the caller. Where none does, the verifier
 * does not see how they are taken, which is most of what it has to walk through. */
const volatile bool tell_stacks = true;

/* What tells an image from the one before and after, and its executable. */
static __always_inline void describe_image(struct exec *e, struct task_struct *task)
{
	e->hdr.aux = task->cred->euid.val;
	bpf_probe_read_kernel_str(e->comm, sizeof(e->comm), task->group_leader->comm);
	e->start_code = BPF_CORE_READ(task, mm, start_code);
	e->end_code = BPF_CORE_READ(task, mm, end_code);
	e->start_stack = BPF_CORE_READ(task, mm, start_stack);
	e->ino = BPF_CORE_READ(task, mm, exe_file, f_inode, i_ino);
	e->dev = BPF_CORE_READ(task, mm, exe_file, f_inode, i_sb, s_dev);
	e->pad = 0;
}

/* Makes the current process a target as of now, and says so before it is told of in any
 * other way. Until that is said, its entry among the targets is 0, and threads that hit
 * meanwhile say it too. */
static __always_inline void follow_hit(__u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 pid = task->tgid;
	__u8 *known, said = 0;
	struct exec *e;

	if (!follow_hits || !task->mm || (task->flags & PF_EXITING))
		return;
	known = bpf_map_lookup_elem(&targets, &pid);
	if (known && *known)
		return;
	if (!known)
		bpf_map_update_elem(&targets, &pid, &said, BPF_NOEXIST);
	e = RESERVE(exec, Joined);
	if (!e) {
		bpf_map_delete_elem(&targets, &pid); /* the next hit will do it */
		return;
	}
	e->hdr.time = now;
	describe_image(e, task);
	if (bpf_probe_read_kernel_str(e->path, sizeof(e->path), BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name)) < 0)
		e->path[0] = 0;
	SUBMIT_NOW(e);
	add_target(pid);
}

/* The stack of user code with these registers, or just its first frame. */
static __always_inline __u64 user_stack(struct pt_regs *ctx, bool inside, bool whole)
{
	struct scratch *at;
	struct stack *frames;
	__u64 id = 0;

	if (!tell_stacks)
		return 0;
	at = take_scratch();
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
