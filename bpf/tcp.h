/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The life of TCP connections: their addresses, their changes of state, their
 * end.
 *
 * Listeners are told of like connections, to whom their children belong; what is
 * said of connections holds for them.
 *
 * A child of a listener is told of at its first change after 10 -> 3: at that
 * change itself, older kernels (6.1) have not yet set its ports, and then
 * overwrite its cookie (inet_csk_clone_lock).
 */
#pragma once

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

/* Tells of an accept(2) that came before anything else of its connection. The
 * connection is in its table, and accept(2) looks there after it has left its entry: with
 * a barrier between on both sides, here the one of fetching the count, one sees what the
 * other did. */
static __always_inline void tell_accepted(const struct sock *sk, const struct connection *c)
{
	struct tcp_accept *early, copy, *e;
	__u64 key = (__u64)sk;

	if (!__sync_fetch_and_add(&accepted_count, 0) || !(early = bpf_map_lookup_elem(&accepted, &key)))
		return;
	copy = *early;
	if (!remove_accepted(sk))
		return; /* accept(2) itself tells */
	e = RESERVE(tcp_accept, TcpAccept);
	if (!e)
		return;
	*e = copy;
	e->conn = id_of(c);
	SUBMIT(e);
}

/* meet is called for a socket that is not known, and knows it if it is wanted. */
static __always_inline struct connection *meet(const struct sock *sk, int old)
{
	struct connection *c;

	if (!tcp_all && !is_accepted(sk) && !(old == SynRecv && from_target(sk)))
		return NULL;
	c = add(sk, 0);
	if (!c)
		return NULL;
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

static __always_inline void fill_state(struct tcp_state *e, const struct tcp_sock *tp, const struct connection *c,
				       const struct counters *n, int old, int new, __u8 shutdown, bool process)
{
	blame(&e->hdr, &e->who, process);
	e->conn = id_of(c);
	e->tx = n->tx;
	e->rx = n->rx;
	e->retransmits = n->retransmits;
	e->srtt = tp->srtt_us >> 3;
	e->min_rtt = n->min_rtt;
	e->hdr.aux = (old & 0xff) | (new & 0xff) << 8 | (__u32)shutdown << 16;
	e->since_call = 0;
	if (process)
		tell_act(e);
}

static __always_inline void fill_endpoints(struct tcp_opened *e, const struct sock *sk, struct connection *c, int old, int new)
{
	e->netns = netns_of(sk);
	e->uid = BPF_CORE_READ(sk, sk_uid.val);
	e->family = read_addrs(sk, e->laddr, e->raddr);
	e->birth = old == Close;
	/* At the birth 0 unless bound; the other can be an earlier connection's. */
	e->lport = e->birth ? BPF_CORE_READ(sk, __sk_common.skc_num) : local_port(sk);
	e->rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	c->told = new == Listen || (e->lport && e->rport);
}

/* hold keeps what is to be told of a socket's CLOSE for its end, if that comes
 * at once: tcp_done destroys what no task holds. */
static __always_inline bool hold(const struct sock *sk, struct connection *c, int old, bool process)
{
	if (!c->told || !(sk->__sk_common.skc_flags & 1UL << SOCK_DEAD))
		return false;
	c->held = bpf_ktime_get_ns();
	c->old = old;
	c->shutdown = sk->sk_shutdown;
	c->process = process;
	return true;
}

static __always_inline void tell_state(const struct tcp_sock *tp, struct connection *c, int old, int new)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct tcp_opened *o = NULL;
	struct tcp_state *e;
	struct counters n;
	int err = old == Close ? 0 : sk->sk_err; /* that of an earlier connection */
	bool process = by_task(old, new, err), told = c->told && old != Close;

	read_counters(&n, tp);
	c->state = new;
	if (old == Established)
		c->idle = idle_of(tp);
	if (new == Close) {
		c->last = n;
		c->heard = tp->segs_in != 0;
		if (hold(sk, c, old, process))
			return;
	}
	if (told) {
		e = RESERVE(tcp_state, TcpState);
		if (!e)
			return;
	} else {
		o = RESERVE(tcp_opened, TcpOpened);
		if (!o)
			return;
		fill_endpoints(o, sk, c, old, new);
		e = &o->state;
	}
	fill_state(e, tp, c, &n, old, new, sk->sk_shutdown, process);
	e->err = err;
	if (o)
		SUBMIT(o);
	else
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
	if (c)
		tell_state(tp, c, old, new);
	return 0;
}

/*
 * The kernel does not run a program that it interrupted (bpf_prog.active). A
 * change in a system call can be interrupted by packets that change other
 * sockets, and those would be missed. So there are two programs: whichever is
 * interrupted, the other one runs.
 *
 * Mostly neither is. The first then leaves the socket in the CPU's slot, where the
 * second, which runs right after, finds it: what comes between clears it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_changed, const struct sock *sk, int old, int new)
{
	__u32 zero = 0;
	__u64 *s = bpf_map_lookup_elem(&seen, &zero);

	if (s)
		*s = 0;
	changed(sk, old, new);
	if (s)
		*s = (__u64)sk;
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_changed_again, const struct sock *sk, int old, int new)
{
	__u32 zero = 0;
	__u64 *s = bpf_map_lookup_elem(&seen, &zero);

	if (s && *s == (__u64)sk)
		return 0;
	return changed(sk, old, new);
}

/* Of a closed connection that had heard of its peer: whether tcp_disconnect has
 * cleared its counters since, as an abort does and an ordinary close does not. */
static __always_inline __u32 disconnected(const struct sock *sk, const struct connection *c)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);

	if (!tp || !c->heard)
		return 0;
	return tp->segs_in ? 1 : 2;
}

static __always_inline void tell_destroy(const struct sock *sk, const struct connection *c)
{
	struct tcp_destroy *e = RESERVE(tcp_destroy, TcpDestroy);

	if (!e)
		return;
	nobody(&e->hdr);
	e->hdr.aux = c->last.retransmits;
	e->conn = id_of(c);
	e->tx = c->last.tx;
	e->rx = c->last.rx;
	e->min_rtt = c->last.min_rtt;
	e->disconnected = disconnected(sk, c);
	e->idle = c->idle;
	SUBMIT(e);
}

/* Tells of the end and of the CLOSE that came just before, in the same task. */
static __always_inline void tell_ended(const struct sock *sk, const struct connection *c)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct tcp_ended *e;

	if (!tp)
		return;
	e = RESERVE(tcp_ended, TcpEnded);
	if (!e)
		return;
	fill_state(&e->state, tp, c, &c->last, c->old, Close, c->shutdown, c->process);
	e->state.err = sk->sk_err;
	e->destroyed = e->state.hdr.time;
	e->state.hdr.time = c->held;
	e->disconnected = disconnected(sk, c);
	e->pad = 0;
	e->idle = c->idle;
	SUBMIT(e);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroyed, const struct sock *sk)
{
	struct connection *c = find(sk);
	__u64 key = (__u64)sk;

	remove_accepted(sk);
	if (!c)
		return 0;
	if (c->held)
		tell_ended(sk, c);
	else
		tell_destroy(sk, c);
	bpf_map_delete_elem(&connections, &key);
	return 0;
}
