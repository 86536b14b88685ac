/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The programs of declared probes, and the calls that a thread is in.
 */
#pragma once

/* Whether a record of so many bytes lies in the room. */
static __always_inline bool in_room(__u64 at, __u64 size)
{
	return at <= caller_room && size <= record_room;
}

static __always_inline void send_call(struct caller *c, __u64 at, __u64 size)
{
	size = (__u32)size;
	KEEP(at);
	KEEP(size);
	if (!in_room(at, size) || !size)
		return;
	if (bpf_ringbuf_output(&events, c->room + at, size, BPF_RB_NO_WAKEUP))
		count_lost(Called);
}

/* Word by word, where a call of the kernel would cost more than the words. */
static __always_inline void read_registers(struct caller *c, const struct pt_regs *ctx)
{
	const __u64 *word = (const __u64 *)ctx;

#pragma unroll
	for (int i = 0; i < REGISTERS; i++)
		c->slot[i] = word[i];
}

static __always_inline void read_task(struct caller *c, const struct probe *p)
{
	__u64 id = bpf_get_current_pid_tgid();

	c->slot[SlotPid] = id >> 32;
	c->slot[SlotTid] = (__u32)id;
	c->slot[SlotCpu] = bpf_get_smp_processor_id();
	if (p->flags & ProbeUid)
		c->slot[SlotUid] = (__u32)bpf_get_current_uid_gid();
	if (p->flags & ProbeCgroup)
		c->slot[SlotCgroup] = bpf_get_current_cgroup_id();
}

/* Tells of a call that is over without a return. */
static __always_inline void send_left(struct caller *c, const struct live *l)
{
	const struct probe *p;
	struct called *r;
	__u32 id = l->probe, at = l->at;

	if (!id || !in_room(at, l->size))
		return;
	p = bpf_map_lookup_elem(&probes, &id);
	if (!p)
		return;
	if (p->flags & ProbeLateFilter)
		return; /* nobody knows whether it would pass */
	r = (struct called *)(c->room + at);
	r->hdr.time = bpf_ktime_get_ns();
	r->hdr.fn = CallLeft;
	r->duration = r->hdr.time - r->entry;
	r->faults |= p->late;
	send_call(c, at, l->size);
}

/* Whether a call that began at this stack pointer is still there, when another
 * begins at the same: one that the first has jumped to. See call_runs. */
static __always_inline bool still_there(__u64 sp)
{
#if defined(__TARGET_ARCH_x86)
	__u64 slot = 0;

	if (bpf_probe_read_user(&slot, sizeof(slot), (void *)sp))
		return false;
	return slot && !(slot & 0xfff);
#else
	return true;
#endif
}

/* The newest of the calls that a thread is in; NULL: it is in none. */
static __always_inline struct live *newest(struct caller *c)
{
	__u64 last = c->calls - 1;

	KEEP(last);
	if (last >= MAX_LIVE)
		return NULL;
	return &c->live[last];
}

/* The newest call is over. */
static __always_inline void pop(struct caller *c, const struct live *l)
{
	c->calls--;
	c->at = l->at;
}

static long drop_one(__u32 i, struct work *w)
{
	struct live *l = newest(w->c);

	if (!l || l->sp > w->sp || (l->sp == w->sp && still_there(l->sp)))
		return 1;
	pop(w->c, l);
	send_left(w->c, l);
	return 0;
}

/* Drops the calls that were left by longjmp: their part of the stack is in use
 * again. */
static __always_inline void drop_left(struct caller *c, __u64 sp)
{
	struct work w = {.c = c, .sp = sp};

	bpf_loop(MAX_LIVE, drop_one, &w, 0);
}

/* Whether there are calls to tell of. Loops need Linux 5.17, which the hooks that call
 * this do without. */
const volatile bool tell_left = false;

/* The thread ends, or its image is replaced: it returns from no call any more. */
static __always_inline void leave_all(__u64 key)
{
	struct caller *c = bpf_map_lookup_elem(&callers, &key);

	if (!c)
		return;
	if (tell_left && c->calls)
		drop_left(c, ~0ull);
	bpf_map_delete_elem(&callers, &key);
}

static long depth_one(__u32 i, struct work *w)
{
	__u32 at = w->c->calls - 1 - i;

	if (at >= MAX_LIVE)
		return 1;
	if (w->c->live[at].probe != w->id)
		return 0;
	w->r->depth = w->c->live[at].depth + 1;
	return 1;
}

static __always_inline void push(struct caller *c, __u64 sp, __u32 of, bool kept, __u32 depth, __u32 size)
{
	struct live *l;

	if (c->calls >= MAX_LIVE) {
		if (kept)
			count_lost(Called);
		return;
	}
	l = &c->live[c->calls];
	l->sp = sp;
	l->at = c->at;
	l->probe = kept ? of : 0;
	l->of = of;
	l->depth = depth;
	l->size = size;
	c->calls++;
	c->at += (size + 7) & ~7u;
}

/* The record of a call that begins now, for all that is known. */
static __always_inline void begin_record(struct called *r, __u32 id, __u8 outcome)
{
	struct task_struct *task = bpf_get_current_task_btf();

	fill(&r->hdr, Called);
	r->hdr.aux = id;
	r->hdr.fn = outcome;
	r->entry = r->hdr.time;
	r->duration = 0;
	r->stack = 0;
	r->faults = 0;
	r->depth = 0;
	r->uid = task->cred->euid.val;
	r->image = (__u32)task->group_leader->start_time + (__u32)task->self_exec_id * 0x9e3779b9;
	bpf_get_current_comm(r->comm, sizeof(r->comm));
}

/* A hit of a probe, at the entry. */
static __always_inline void enter(bool user, struct work *w)
{
	const struct probe *p = w->p;
	struct caller *c = w->c;
	__u32 at = c->at, size;
	struct called *r;

	if (!in_room(at, p->room)) {
		count_lost(Called);
		if (p->flags & ProbeReturns)
			push(c, w->sp, w->id, false, 0, 0);
		return;
	}
	r = w->r = (struct called *)(c->room + at);
	begin_record(r, w->id, CallEntered);
	r->depth = 1;
	if (c->calls)
		bpf_loop(MAX_LIVE, depth_one, w, 0);
	c->pos = at + offsetof(struct called, num) + p->fetches * sizeof(__u64);
	read_task(c, p);
	fetch_all(user, w, false);
	if (!(p->flags & ProbeLateFilter) && !passes(user, w)) {
		if (p->flags & ProbeReturns)
			push(c, w->sp, w->id, false, 0, 0);
		return;
	}
	if (p->flags & ProbeCode)
		follow_hit(r->entry);
	if (p->flags & (ProbeStack | ProbeCaller))
		r->stack = user ? stack_here(w) : stack_below();
	size = c->pos - at;
	if (p->flags & ProbeReturns) {
		r->hdr.fn = CallReturned;
		push(c, w->sp, w->id, true, r->depth, size);
		return;
	}
	send_call(c, at, size);
}

/* The return of a call. */
static __always_inline void leave(bool user, void *ctx, struct caller *c, const struct live *l)
{
	struct work w = {.c = c, .id = l->probe};
	__u32 at = l->at;
	struct called *r;

	if (!w.id || !in_room(at, l->size))
		return;
	w.p = bpf_map_lookup_elem(&probes, &w.id);
	if (!w.p)
		return;
	r = w.r = (struct called *)(c->room + at);
	r->hdr.time = bpf_ktime_get_ns();
	r->hdr.cpu = bpf_get_smp_processor_id();
	r->duration = r->hdr.time - r->entry;
	c->pos = at + l->size;
	c->slot[SlotDuration] = r->duration;
	if (w.p->flags & ProbeResult)
		bpf_probe_read_kernel(c->slot, REGISTERS * sizeof(__u64), ctx);
	if (w.p->late)
		fetch_all(user, &w, true);
	if ((w.p->flags & ProbeLateFilter) && !passes(user, &w))
		return;
	send_call(c, at, c->pos - at);
}

/* A return whose entry was not seen. */
static __always_inline void send_unentered(struct caller *c, __u32 id)
{
	__u32 at = c->at;
	struct called *r;

	if (!in_room(at, sizeof(*r)))
		return;
	r = (struct called *)(c->room + at);
	begin_record(r, id, CallUnentered);
	r->faults = ~0u;
	send_call(c, at, offsetof(struct called, num));
}

static long enter_one(__u32 i, struct work *w)
{
	w->p = bpf_map_lookup_elem(&probes, &w->id);
	if (!w->p)
		return 1;
	enter(true, w);
	w->id = w->p->next;
	return !w->id;
}

SEC("uprobe.s")
int call_enter(struct pt_regs *ctx)
{
	__u32 slot = (__u32)bpf_get_attach_cookie(ctx) * PAGE_OFFSETS + (PT_REGS_IP(ctx) & (PAGE_OFFSETS - 1));
	__u32 *first = bpf_map_lookup_elem(&places, &slot);
	struct work w = {.ctx = ctx, .sp = PT_REGS_SP(ctx)};

	if (!first || !*first || bpf_get_current_pid_tgid() >> 32 == recorder)
		return 0;
	w.c = this_caller(caller_key(false));
	if (!w.c) {
		count_lost(Called);
		return 0;
	}
	w.c->returned = 0;
	if (w.c->calls)
		drop_left(w.c, w.sp);
	read_registers(w.c, ctx);
	w.id = *first;
	bpf_loop(MAX_CHAIN, enter_one, &w, 0);
	return 0;
}

static long return_one(__u32 i, struct work *w)
{
	struct live *l = newest(w->c);

	if (!l || l->sp > w->sp)
		return 1;
	pop(w->c, l);
	if (l->sp < w->sp) {
		send_left(w->c, l);
		return 0;
	}
	w->found = true;
	leave(true, w->ctx, w->c, l);
	return 0;
}

SEC("uretprobe.s")
int call_return(struct pt_regs *ctx)
{
	struct work w = {.ctx = ctx, .sp = PT_REGS_SP(ctx) - RET_SP};

	if (bpf_get_current_pid_tgid() >> 32 == recorder)
		return 0;
	w.c = this_caller(caller_key(false));
	if (!w.c)
		return 0; /* nor was there at the entry, which has been counted */
	if (w.c->calls)
		bpf_loop(MAX_LIVE, return_one, &w, 0);
	if (!w.found && w.c->returned != w.sp) {
		/* One event serves all places, and is hit once for each that returns
		 * here, as functions do that jump to each other. */
		send_unentered(w.c, (__u32)bpf_get_attach_cookie(ctx));
	}
	w.c->returned = w.sp;
	return 0;
}

/* The one probe that is where the program runs, and room for its call. */
static __always_inline bool begin(struct work *w, void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (pid == recorder || (targeted && !is_target(pid)))
		return false;
	w->id = (__u32)bpf_get_attach_cookie(ctx);
	w->p = bpf_map_lookup_elem(&probes, &w->id);
	if (!w->p)
		return false;
	w->c = this_caller(caller_key(true));
	if (!w->c)
		count_lost(Called);
	return w->c != NULL;
}

SEC("tracepoint")
int call_tracepoint(void *ctx)
{
	struct work w = {};

	if (!begin(&w, ctx))
		return 0;
	w.c->slot[SlotCtx] = (__u64)ctx;
	enter(false, &w);
	return 0;
}

SEC("kprobe")
int call_kernel(struct pt_regs *ctx)
{
	struct work w = {.sp = PT_REGS_SP(ctx)};

	if (!begin(&w, ctx))
		return 0;
	read_registers(w.c, ctx);
	enter(false, &w);
	return 0;
}

/* Kernel functions return in the order in which they were called. */
static long kernel_return_one(__u32 i, struct work *w)
{
	struct live *l = newest(w->c);

	if (!l)
		return 1;
	pop(w->c, l);
	if (l->of != w->id) {
		send_left(w->c, l);
		return 0;
	}
	leave(false, w->ctx, w->c, l);
	return 1;
}

SEC("kretprobe")
int call_kernel_return(struct pt_regs *ctx)
{
	struct work w = {.ctx = ctx};

	if (!begin(&w, ctx))
		return 0;
	bpf_loop(MAX_LIVE, kernel_return_one, &w, 0);
	return 0;
}
