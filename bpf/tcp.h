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
	if (old == Established)
		c->idle = idle_of(tp);
	if (new == Close) {
		c->last = n;
		c->heard = tp->segs_in != 0;
	}
	e = RESERVE(tcp_state, TcpState);
	if (!e)
		return;
	blame(&e->hdr, &e->who, process);
	e->hdr.aux = (old & 0xff) | (new & 0xff) << 8 | (__u32)sk->sk_shutdown << 16;
	e->since_call = 0;
	if (process)
		tell_act(e);
	e->err = err;
	e->conn = id_of(c);
	e->tx = n.tx;
	e->rx = n.rx;
	e->retransmits = n.retransmits;
	e->srtt = tp->srtt_us >> 3;
	e->min_rtt = n.min_rtt;
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
		e->idle = c->idle;
		SUBMIT(e);
	}
	bpf_map_delete_elem(&connections, &key);
	return 0;
}
