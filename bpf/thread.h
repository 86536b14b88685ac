/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What is remembered of a thread between two hooks: the allocator call it is
 * in, and room for its stack.
 *
 * The room is the thread's own rather than the CPU's because programs on
 * uprobes can be preempted by another thread's.
 */
#pragma once

struct call {
	__u64 sp; /* at the entry; 0: in no call */
	__u64 ptr;
	__u64 size;
	__u64 entry;
	__u64 stack;
	__u8 fn;
	__u8 shape;
};

struct state {
	struct call call;
	__u64 freed, freed_sp; /* by a free that may hand the block on to another */
};

struct thread {
	struct state state;
	struct stack stack;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 17);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct thread);
} threads SEC(".maps");

/* The states of threads for which the above has no room, or the kernel no memory just
 * then: here only while they are in a call, so that a few are enough. Without
 * it, what a function calls within would be taken for calls of the program. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 12);
	__type(key, __u32);
	__type(value, struct state);
} crowd SEC(".maps");

bool crowded; /* the crowd has had a thread in it */

/* Zeros to start from; the first is too large for the stack of a program. */
static const struct thread no_thread;
static const struct state no_state;

/* What is remembered of the running thread, and its room for a stack if it has any. */
static __always_inline struct state *known_state(struct stack **room)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct thread *t = bpf_map_lookup_elem(&threads, &tid);

	*room = NULL;
	if (!t)
		return crowded ? bpf_map_lookup_elem(&crowd, &tid) : NULL;
	*room = &t->stack;
	return &t->state;
}

/* The same, made if there is none. NULL if there is no room at all. */
static __always_inline struct state *this_state(struct stack **room)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct state *s = known_state(room);

	if (s)
		return s;
	if (!bpf_map_update_elem(&threads, &tid, &no_thread, BPF_NOEXIST))
		return known_state(room);
	crowded = true;
	bpf_map_update_elem(&crowd, &tid, &no_state, BPF_NOEXIST);
	return bpf_map_lookup_elem(&crowd, &tid);
}

/* Makes room in the crowd. The state must not be used afterwards. */
static __always_inline void leave_crowd(void)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();

	if (crowded)
		bpf_map_delete_elem(&crowd, &tid);
}

/* Forgets a thread that has ended. */
static __always_inline void forget_thread(__u32 tid)
{
	bpf_map_delete_elem(&threads, &tid);
	if (crowded)
		bpf_map_delete_elem(&crowd, &tid);
}

/*
 * Whether the thread's call is still running. It is not if the program left it
 * by longjmp. On x86 the kernel replaced the call's return address on the
 * stack by the address of its uretprobe trampoline, which is the start of a page
 * (get_trampoline_vaddr in kernel/events/uprobes.c); once the frame is gone,
 * something else is there. Where the return address lives in a register,
 * nothing can be read, and the call is believed.
 */
static __always_inline bool call_runs(const struct call *c)
{
#if defined(__TARGET_ARCH_x86)
	__u64 slot = 0;

	if (bpf_probe_read_user(&slot, sizeof(slot), (void *)c->sp))
		return false;
	return slot && !(slot & 0xfff);
#else
	return true;
#endif
}
