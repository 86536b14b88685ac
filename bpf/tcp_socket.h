/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which sockets are recorded, and what is known of them.
 *
 * They are known by address, from their birth to tcp_destroy_sock, in a hash
 * rather than in socket storage: programs on system calls cannot reach that.
 * An address is used again within microseconds, so each entry is checked
 * against the socket's cookie.
 */
#pragma once

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define SOCK_STREAM 1
#define SOCK_DEAD 0 /* bit of skc_flags: no task holds it any more (sock_orphan) */
#define SOCK_DONE 1 /* bit of skc_flags: the peer's FIN came (tcp_fin) */
#define ECONNABORTED 103

enum { /* include/net/tcp_states.h */
	Established = 1,
	SynSent,
	SynRecv,
	FinWait1,
	FinWait2,
	TimeWait,
	Close,
	CloseWait,
	LastAck,
	Listen,
	Closing,
	NewSynRecv,
};

const volatile bool tcp_all = false; /* the machine's connections, not just the targets' */

struct counters {
	__u64 tx; /* payload bytes, each once */
	__u64 rx;
	__u32 retransmits;
	__u32 min_rtt;
};

struct connection {
	__u64 cookie;
	__u64 held; /* when it became CLOSE, if tcp_destroy_sock is to tell that */
	struct counters last; /* at -> CLOSE: tcp_disconnect clears the socket's */
	__u16 generation;     /* how often the socket was connected before */
	__u8 told;	      /* both ports */
	__u8 state;	      /* as last told */
	__u8 heard;	      /* at -> CLOSE: segments had come */
	__u8 old;	      /* of what is held: the state before, ... */
	__u8 shutdown;
	__u8 process;
	__u64 idle;	      /* as in tcp_destroy */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64); /* struct sock * */
	__type(value, struct connection);
} connections SEC(".maps");

struct endpoint {
	__u8 addr[16];
	__u32 netns;
	__u16 port;
	__u16 family; /* AF_INET or AF_INET6 */
};

/* Where targets listen, and by how many sockets. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 14);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint);
	__type(value, __u64);
} listening SEC(".maps");

/* The sockets by which they do. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 14);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct endpoint);
} listeners SEC(".maps");

/* Accepted sockets that had told nothing yet: targets' by an unknown listener,
 * and those that TCP fast open hands out before the handshake ends. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct tcp_accept);
} accepted SEC(".maps");

/* How many they are: mostly none, and then nobody need look for one. More than there
 * are does no harm (an entry that replaced a stale one). */
__u32 accepted_count = 0;

static __always_inline bool is_accepted(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	return accepted_count && bpf_map_lookup_elem(&accepted, &key);
}

/* False if there was no room. Counted after it is there, and by an operation that fetches
 * and so is a barrier: who looks next for the connection either finds it, or whoever adds
 * that finds this (tell_accepted). */
static __always_inline bool add_accepted(const struct sock *sk, const struct tcp_accept *e)
{
	__u64 key = (__u64)sk;

	if (bpf_map_update_elem(&accepted, &key, e, BPF_ANY))
		return false;
	return __sync_fetch_and_add(&accepted_count, 1) != ~0U;
}

/* Whether it was there. */
static __always_inline bool remove_accepted(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (!accepted_count || bpf_map_delete_elem(&accepted, &key))
		return false;
	__sync_fetch_and_add(&accepted_count, -1);
	return true;
}

/* A connect(2) that a thread is in. */
struct connecting {
	__u64 time;
	__u64 sk;
	__u64 conn;
	__u8 raddr[16];
	__u32 netns;
	__s32 fd;
	__u16 rport;
	__u8 family;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct connecting);
} connects SEC(".maps");

static __always_inline bool wants_current(void)
{
	return tcp_all || is_target(bpf_get_current_pid_tgid() >> 32);
}

static __always_inline __u64 id_of(const struct connection *c)
{
	return c->cookie | (__u64)c->generation << 48;
}

static __always_inline void current_who(struct who *w)
{
	struct task_struct *task = bpf_get_current_task_btf();

	bpf_get_current_comm(w->comm, sizeof(w->comm));
	w->uid = task->cred->euid.val;
}

/* For what a packet or a timer did: the running task was only interrupted. */
static __always_inline void nobody(struct hdr *h)
{
	h->pid = 0;
	h->tid = 0;
}

static __always_inline void blame(struct hdr *h, struct who *w, bool current)
{
	if (current) {
		current_who(w);
		return;
	}
	nobody(h);
	__builtin_memset(w, 0, sizeof(*w));
}

static __always_inline bool is_mapped(const __u32 *a)
{
	return !a[0] && !a[1] && a[2] == bpf_htonl(0xffff);
}

/* read_addrs reads a socket's addresses, and returns their family: 4 also for
 * what an IPv6 socket does with mapped addresses. */
static __always_inline __u8 read_addrs(const struct sock *sk, void *laddr, void *raddr)
{
	__u32 l[4] = {}, r[4] = {};
	__u8 family = 4;

	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6 &&
	    bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		bpf_core_read(l, sizeof(l), &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(r, sizeof(r), &sk->__sk_common.skc_v6_daddr);
		if (!is_mapped(l) && !is_mapped(r))
			family = 6;
	}
	if (family == 4) {
		__builtin_memset(l, 0, sizeof(l));
		__builtin_memset(r, 0, sizeof(r));
		l[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		r[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	}
	__builtin_memcpy(laddr, l, sizeof(l));
	__builtin_memcpy(raddr, r, sizeof(r));
	return family;
}

static __always_inline __u32 netns_of(const struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

/* skc_num is 0 again at -> CLOSE, this is not. */
static __always_inline __u16 local_port(const struct sock *sk)
{
	return bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
}

static __always_inline struct connection *find(const struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct connection *c = bpf_map_lookup_elem(&connections, &key);

	if (c && c->cookie != bpf_get_socket_cookie((void *)sk))
		return NULL;
	return c;
}

static __always_inline struct connection *add(const struct sock *sk, __u16 generation)
{
	struct connection c = {.cookie = bpf_get_socket_cookie((void *)sk), .generation = generation};
	__u64 key = (__u64)sk;

	if (bpf_map_update_elem(&connections, &key, &c, BPF_ANY)) {
		count_lost(TcpEndpoints);
		return NULL;
	}
	return bpf_map_lookup_elem(&connections, &key);
}

/* Where a socket listens, or the one whose child it is. The family is the socket's own and
 * not the address's: a child has its listener's, so that those of an IPv4 listener are
 * told from those of the IPv6 one at the same port, be that for IPv6 alone or not. */
static __always_inline void read_listener(struct endpoint *at, const struct sock *sk)
{
	__u32 a[4] = {};

	at->netns = netns_of(sk);
	at->port = local_port(sk);
	at->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (at->family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_rcv_saddr))
		bpf_core_read(a, sizeof(a), &sk->__sk_common.skc_v6_rcv_saddr);
	else
		a[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	if (is_mapped(a) && !a[3])
		a[2] = 0; /* ::ffff:0.0.0.0 is any, too */
	__builtin_memcpy(at->addr, a, sizeof(a));
}

/* Whether a target listens where this socket was born. */
static __always_inline bool from_target(const struct sock *sk)
{
	struct endpoint at;

	read_listener(&at, sk);
	if (bpf_map_lookup_elem(&listening, &at))
		return true;
	__builtin_memset(at.addr, 0, sizeof(at.addr));
	return bpf_map_lookup_elem(&listening, &at) != NULL;
}

static __always_inline void add_listener(const struct sock *sk)
{
	__u64 key = (__u64)sk, zero = 0, *n;
	struct endpoint at;

	read_listener(&at, sk);
	if (bpf_map_update_elem(&listeners, &key, &at, BPF_NOEXIST))
		return; /* known, or full: then accept tells */
	bpf_map_update_elem(&listening, &at, &zero, BPF_NOEXIST);
	n = bpf_map_lookup_elem(&listening, &at);
	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline void remove_listener(const struct sock *sk)
{
	struct endpoint *l, at;
	__u64 key = (__u64)sk, *n;

	l = bpf_map_lookup_elem(&listeners, &key);
	if (!l)
		return;
	at = *l;
	if (bpf_map_delete_elem(&listeners, &key))
		return;
	n = bpf_map_lookup_elem(&listening, &at);
	if (!n)
		return;
	__sync_fetch_and_add(n, -1);
	if (!*n)
		bpf_map_delete_elem(&listening, &at);
}
