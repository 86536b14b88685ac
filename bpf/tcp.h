/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The life of TCP connections: which are recorded, and their changes of state.
 *
 * Sockets are known by address, from their birth to tcp_destroy_sock, in a hash
 * rather than in socket storage: programs on system calls cannot reach that.
 * An address is used again within microseconds, so each entry is checked
 * against the socket's cookie.
 *
 * Listeners are told of like connections, to whom their children belong; what is
 * said below of connections holds for them.
 *
 * A child of a listener is told of at its first change after 10 -> 3: at that
 * change itself, older kernels (6.1) have not yet set its ports, and then
 * overwrite its cookie (inet_csk_clone_lock).
 */
#pragma once

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define SOCK_STREAM 1
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
	struct counters last; /* at -> CLOSE: tcp_disconnect clears the socket's */
	__u16 generation;     /* how often the socket was connected before */
	__u8 told;	      /* both ports */
	__u8 state;	      /* as last told */
	__u8 heard;	      /* at -> CLOSE: segments had come */
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
	__u16 family;
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

static __always_inline void read_endpoints(struct tcp_endpoints *e, const struct sock *sk, __u64 conn)
{
	e->hdr.aux = BPF_CORE_READ(sk, sk_uid.val);
	e->netns = netns_of(sk);
	e->conn = conn;
	e->family = read_addrs(sk, e->laddr, e->raddr);
	e->lport = local_port(sk);
	e->rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	__builtin_memset(e->pad, 0, sizeof(e->pad));
}

static __always_inline void tell_endpoints(const struct sock *sk, struct connection *c, bool birth)
{
	struct tcp_endpoints *e = RESERVE(tcp_endpoints, TcpEndpoints);

	if (!e)
		return;
	blame(&e->hdr, &e->who, birth);
	read_endpoints(e, sk, id_of(c));
	if (birth) /* by now 0 unless bound; the other can be an earlier connection's */
		e->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	c->told = e->lport && e->rport;
	SUBMIT(e);
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

static __always_inline void read_listener(struct endpoint *at, const struct sock *sk)
{
	__u8 unused[16];

	at->netns = netns_of(sk);
	at->port = local_port(sk);
	at->family = read_addrs(sk, at->addr, unused);
}

/* Whether a target listens where this socket was born. */
static __always_inline bool from_target(const struct sock *sk)
{
	struct endpoint at;

	read_listener(&at, sk);
	if (bpf_map_lookup_elem(&listening, &at))
		return true;
	__builtin_memset(at.addr, 0, sizeof(at.addr));
	if (bpf_map_lookup_elem(&listening, &at))
		return true;
	at.family = 6; /* which takes IPv4 as well */
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

/* Tells of an accept(2) that came before anything else of its connection. */
static __always_inline void tell_accepted(const struct sock *sk, const struct connection *c)
{
	__u64 key = (__u64)sk;
	struct tcp_accept *early = bpf_map_lookup_elem(&accepted, &key), *e;

	if (!early)
		return;
	e = RESERVE(tcp_accept, TcpAccept);
	if (e) {
		*e = *early;
		e->conn = id_of(c);
	}
	if (bpf_map_delete_elem(&accepted, &key)) { /* accept(2) itself tells */
		if (e)
			bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return;
	}
	if (e)
		SUBMIT(e);
}

/* meet is called for a socket that is not known, and knows it if it is wanted. */
static __always_inline struct connection *meet(const struct sock *sk, int old)
{
	__u64 key = (__u64)sk;
	struct connection *c;

	if (!tcp_all && !bpf_map_lookup_elem(&accepted, &key) && !(old == SynRecv && from_target(sk)))
		return NULL;
	c = add(sk, 0);
	if (!c)
		return NULL;
	tell_endpoints(sk, c, false);
	tell_accepted(sk, c);
	return c;
}

/* An active open or a listen: not always the socket's first. */
static __always_inline struct connection *born(const struct sock *sk, struct connection *c, int new)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct connecting *call;

	if (!wants_current())
		return NULL;
	c = add(sk, c ? c->generation + 1 : 0);
	if (!c)
		return NULL;
	call = bpf_map_lookup_elem(&connects, &tid);
	if (call && call->sk == (__u64)sk)
		call->conn = id_of(c);
	if (new == Listen && !tcp_all)
		add_listener(sk);
	tell_endpoints(sk, c, true);
	if (new == Listen)
		c->told = 1;
	return c;
}

/*
 * Whether the running task itself changed the state, by a system call or by its
 * exit; false if that is not sure. Packets do the others, in whatever task they
 * interrupt. No packet and no timer closes without an error from these states.
 */
static __always_inline bool by_task(int old, int new, int err)
{
	switch (old) {
	case Close:
		return new == SynSent || new == Listen;
	case Listen:
		return new == Close;
	case SynSent:
		return new == Close && (!err || err == ECONNABORTED);
	case Established:
	case CloseWait:
		return new == FinWait1 || new == LastAck || (new == Close && (!err || err == ECONNABORTED));
	case SynRecv:
		return new == FinWait1;
	}
	return new == Close && err == ECONNABORTED;
}

static __always_inline void read_counters(struct counters *n, const struct tcp_sock *tp)
{
	__u64 rx = tp->bytes_received;

	if (tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & 1UL << SOCK_DONE && rx)
		rx--; /* the FIN was counted */
	n->tx = tp->bytes_sent - tp->bytes_retrans;
	n->rx = rx;
	n->retransmits = tp->total_retrans;
	n->min_rtt = tp->rtt_min.s[0].v;
	if (n->min_rtt == ~0U)
		n->min_rtt = 0;
}

static __always_inline void tell_state(const struct tcp_sock *tp, struct connection *c, int old, int new)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct tcp_state *e;
	struct counters n;
	int err = old == Close ? 0 : sk->sk_err; /* that of an earlier connection */
	bool process = by_task(old, new, err);

	read_counters(&n, tp);
	c->state = new;
	if (new == Close) {
		c->last = n;
		c->heard = tp->segs_in != 0;
	}
	e = RESERVE(tcp_state, TcpState);
	if (!e)
		return;
	blame(&e->hdr, &e->who, process);
	e->hdr.aux = (old & 0xff) | (new & 0xff) << 8 | (__u32)sk->sk_shutdown << 16 | (__u32)process << 24;
	e->err = err;
	e->conn = id_of(c);
	e->tx = n.tx;
	e->rx = n.rx;
	e->retransmits = n.retransmits;
	e->srtt = tp->srtt_us >> 3;
	e->min_rtt = n.min_rtt;
	e->pad = 0;
	SUBMIT(e);
}

static __always_inline int changed(const struct sock *sk, int old, int new)
{
	struct connection *c;
	struct tcp_sock *tp;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (old == Listen && new != Close)
		return 0; /* a child, which is told of at its next change */
	if (old == Listen && !tcp_all)
		remove_listener(sk);
	c = find(sk);
	if (c && c->state == new) /* told by the other program */
		return 0;
	tp = bpf_skc_to_tcp_sock((void *)sk);
	if (!tp)
		return 0;
	if (old == Close)
		c = born(sk, c, new);
	else if (!c)
		c = meet(sk, old);
	else if (!c->told)
		tell_endpoints(sk, c, false);
	if (c)
		tell_state(tp, c, old, new);
	return 0;
}

/*
 * The kernel does not run a program that it interrupted (bpf_prog.active). A
 * change in a system call can be interrupted by packets that change other
 * sockets, and those would be missed. So there are two programs: whichever is
 * interrupted, the other one runs.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_changed, const struct sock *sk, int old, int new) { return changed(sk, old, new); }

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_changed_again, const struct sock *sk, int old, int new) { return changed(sk, old, new); }

/* Of a closed connection that had heard of its peer: whether tcp_disconnect has
 * cleared its counters since, as an abort does and an ordinary close does not. */
static __always_inline __u32 disconnected(const struct sock *sk, const struct connection *c)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);

	if (!tp || !c->heard)
		return 0;
	return tp->segs_in ? 1 : 2;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroyed, const struct sock *sk)
{
	struct connection *c = find(sk);
	__u64 key = (__u64)sk;
	struct tcp_destroy *e;

	if (!tcp_all)
		remove_listener(sk);
	bpf_map_delete_elem(&accepted, &key);
	if (!c)
		return 0;
	e = RESERVE(tcp_destroy, TcpDestroy);
	if (e) {
		nobody(&e->hdr);
		e->hdr.aux = c->last.retransmits;
		e->conn = id_of(c);
		e->tx = c->last.tx;
		e->rx = c->last.rx;
		e->min_rtt = c->last.min_rtt;
		e->disconnected = disconnected(sk, c);
		SUBMIT(e);
	}
	bpf_map_delete_elem(&connections, &key);
	return 0;
}
