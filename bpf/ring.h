/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The ring, who is recorded, and what was lost.
 *
 * One ring for everything: its lock gives all records one order in which a
 * free always comes before the next birth at the same address, without which
 * no pairing could be exact.
 */
#pragma once

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24); /* bytes; set at load */
	__type(value, union record);
} events SEC(".maps");

/* Records that found no room, by CPU and kind. The reader maps it: it looks a few
 * times a second at what is nearly always the same, and that should cost nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, Count); /* times CPUs; set at load */
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* Thread groups that are recorded. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u8);
} targets SEC(".maps");

/* Names whose processes become targets. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, char[COMM_LEN]);
	__type(value, __u8);
} comms SEC(".maps");

static __always_inline bool is_target(__u32 pid)
{
	return bpf_map_lookup_elem(&targets, &pid) != NULL;
}

static __always_inline void count_lost(__u32 kind)
{
	__u32 at = bpf_get_smp_processor_id() * Count + kind;
	__u64 *n = bpf_map_lookup_elem(&lost, &at);

	if (n) /* programs can be preempted by others of this CPU */
		__sync_fetch_and_add(n, 1);
}

static __always_inline void add_target(__u32 pid)
{
	__u8 one = 1;

	if (bpf_map_update_elem(&targets, &pid, &one, BPF_ANY))
		count_lost(Fork);
}

/* A record of two events is lost as both. */
static __always_inline void count_lost_record(__u8 kind)
{
	if (kind == TcpOpened) {
		count_lost(TcpEndpoints);
		kind = TcpState;
	}
	if (kind == TcpEnded) {
		count_lost(TcpState);
		kind = TcpDestroy;
	}
	count_lost(kind);
}

static __always_inline void fill(struct hdr *h, __u8 kind)
{
	__u64 id = bpf_get_current_pid_tgid();

	h->time = bpf_ktime_get_ns();
	h->pid = id >> 32;
	h->tid = (__u32)id;
	h->kind = kind;
	h->fn = 0;
	h->cpu = bpf_get_smp_processor_id();
	h->aux = 0;
}

/* reserve gives a record of the kind with its header filled, or counts it as lost. */
static __always_inline void *reserve(__u64 size, __u8 kind)
{
	struct hdr *h = bpf_ringbuf_reserve(&events, size, 0);

	if (!h) {
		count_lost_record(kind);
		return NULL;
	}
	fill(h, kind);
	return h;
}

#define RESERVE(type, kind) ((struct type *)reserve(sizeof(struct type), kind))
/* A wake-up costs more than a record. The reader looks by itself, often enough
 * for the ring's size. */
#define SUBMIT(e) bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP)

/* For what the reader has to act on. */
#define SUBMIT_NOW(e) bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP)
