/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * By what a task ends a connection, and how long the connection had been idle.
 *
 * A change of state that a task causes happens inside its system call, on
 * kernels that put off the last close of a file to the return to user space as
 * well: the registers saved at the entry still hold the call's number. So the
 * call is told with the change itself, exactly, and needs no record. Only when
 * it was entered is remembered, per thread.
 */
#pragma once

#define PF_KTHREAD 0x00200000

const volatile __u32 tick_ns = 4000000; /* of the kernel's jiffies */

/* When the thread last entered close or shutdown. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} closing SEC(".maps");

static __always_inline int entering_close(void)
{
	__u64 *at;

	if (!wants_current())
		return 0;
	at = bpf_task_storage_get(&closing, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (at)
		*at = bpf_ktime_get_ns();
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_close")
int enter_close(struct sys_enter *ctx) { return entering_close(); }

SEC("tracepoint/syscalls/sys_enter_shutdown")
int enter_shutdown(struct sys_enter *ctx) { return entering_close(); }

/* The number of the system call that the task is in. */
static __always_inline long syscall_of(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

#if defined(__TARGET_ARCH_x86)
	return (int)BPF_CORE_READ(regs, orig_ax);
#else
	return BPF_CORE_READ(regs, syscallno);
#endif
}

static __always_inline __u32 act_of(struct task_struct *task)
{
	__u32 flags = task->flags;

	if (flags & PF_EXITING)
		return task->exit_code & 0x7f ? ByKill : ByExit;
	if (flags & PF_KTHREAD)
		return BySome;
	switch (syscall_of(task)) {
#if defined(__TARGET_ARCH_x86)
	case 3:
		return ByClose;
	case 436:
		return ByCloseRange;
	case 48:
		return ByShutdown;
	case 59: /* execve */
	case 322: /* execveat */
		return ByExec;
	case 33: /* dup2 */
	case 292: /* dup3 */
		return ByDup;
	case 42:
		return ByConnect;
#else
	case 57:
		return ByClose;
	case 436:
		return ByCloseRange;
	case 210:
		return ByShutdown;
	case 221: /* execve */
	case 281: /* execveat */
		return ByExec;
	case 24: /* dup3 */
		return ByDup;
	case 203:
		return ByConnect;
#endif
	}
	return BySome;
}

/* Tells what the running task does, and since when if that was seen. */
static __always_inline void tell_act(struct tcp_state *e)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 act = act_of(task);
	__u64 *at, since;

	e->hdr.aux |= act << 24;
	if (act != ByClose && act != ByShutdown)
		return;
	at = bpf_task_storage_get(&closing, task, 0, 0);
	if (!at || !*at)
		return;
	since = e->hdr.time - *at;
	e->since_call = since > ~0U ? ~0U : since;
	*at = 0;
}

/* For how long no payload went either way: the kernel remembers the last of each
 * direction in ticks. Less than a tick is told as 1, since 0 is not known. */
static __always_inline __u64 idle_of(const struct tcp_sock *tp)
{
	__u32 now = bpf_jiffies64(), out = now - tp->lsndtime, in = now - tp->inet_conn.icsk_ack.lrcvtime;
	__u32 ticks = out < in ? out : in;

	return ticks ? (__u64)ticks * tick_ns : 1;
}
