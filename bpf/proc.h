/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The life of the targets. A target's children become targets here, in the
 * parent's context and before the child first runs, so that nothing of a child
 * is missed.
 */
#pragma once

const volatile bool match_comms = false;
const volatile bool wake_forks = false; /* the reader has to act on each new process */

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 pid = parent->tgid, child_pid = child->tgid;
	struct fork *e;

	if (!is_target(pid))
		return 0;
	if (child_pid != pid)
		add_target(child_pid);
	if (stacks_by == Snapshots && parent->mm != child->mm)
		code_of_child(parent->mm, child->mm);
	e = RESERVE(fork, Fork);
	if (!e)
		return 0;
	e->hdr.aux = (parent->mm == child->mm ? 1 : 0) | (child_pid == pid ? 2 : 0);
	e->child_pid = child_pid;
	e->child_tid = child->pid;
	bpf_probe_read_kernel_str(e->comm, sizeof(e->comm), child->comm);
	if (wake_forks && child_pid != pid)
		SUBMIT_NOW(e);
	else
		SUBMIT(e);
	return 0;
}

/* Whether a process of this name is wanted that is no target yet. */
static __always_inline bool wanted(struct task_struct *task)
{
	char name[COMM_LEN] = {};

	if (!match_comms)
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), task->comm);
	return bpf_map_lookup_elem(&comms, name) != NULL;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	__u32 pid = task->tgid, tid = old_pid;
	__u64 first = pid, thread = tid;
	struct exec *e;

	/* No call survives, nor does the number of a thread that is not the first. */
	forget_thread(pid);
	forget_thread(tid);
	leave_all(first);
	if (tid != pid)
		leave_all(thread);
	if (!is_target(pid)) {
		if (!wanted(task))
			return 0;
		add_target(pid);
	}
	if (stacks_by == Snapshots)
		code_of_image(task->mm);
	e = RESERVE(exec, Exec);
	if (!e)
		return 0;
	describe_image(e, task);
	if (bpf_probe_read_kernel_str(e->path, sizeof(e->path), bprm->filename) < 0)
		e->path[0] = 0;
	SUBMIT_NOW(e);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	__u32 pid = task->tgid, tid = task->pid;
	int gone = task->signal->live.counter == 0;
	__u64 user = tid, kernel = KERNEL_SIDE | tid;
	struct exit *e;

	/* Of threads that end together, each may see that the process is gone, and
	 * the first to tell takes it off the targets. */
	forget_thread(tid);
	leave_all(user);
	leave_all(kernel);
	if (!is_target(pid))
		return 0;
	if (gone)
		bpf_map_delete_elem(&targets, &pid);
	e = RESERVE(exit, Exit);
	if (!e)
		return 0;
	e->hdr.aux = gone;
	e->code = task->signal->group_exit_code ?: task->exit_code;
	e->pad = 0;
	SUBMIT(e);
	return 0;
}

/* The address space is gone. */
SEC("tp_btf/exit_mmap")
int BPF_PROG(space_gone, struct mm_struct *mm)
{
	__u64 key = (__u64)mm;

	bpf_map_delete_elem(&codes, &key);
	return 0;
}

/* Where targets that run already have code. The second walk says that it is all. */
#define VM_EXEC 4
__u32 last_walk = 0;

SEC("iter/task_vma")
int code_there(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct code *c;

	if (!task || !vma || task->pid != task->tgid || !is_target(task->tgid))
		return 0;
	c = add_code((__u64)vma->vm_mm);
	if (!c || c->whole)
		return 0;
	if (vma->vm_flags & VM_EXEC)
		code_appears(c, vma->vm_start, vma->vm_end);
	if (!last_walk)
		c->walked = 1;
	else if (c->walked)
		c->whole = 1;
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(task_renamed, struct task_struct *task, const char *comm)
{
	struct comm *e;

	if (!is_target(task->tgid) || !(e = RESERVE(comm, Comm)))
		return 0;
	e->hdr.pid = task->tgid;
	e->hdr.tid = task->pid; /* a thread can rename another through /proc */
	if (bpf_probe_read_kernel_str(e->comm, sizeof(e->comm), comm) < 0)
		e->comm[0] = 0;
	SUBMIT(e);
	return 0;
}
