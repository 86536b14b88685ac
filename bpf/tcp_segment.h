/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Resets and retransmissions of recorded connections. The socket they are told
 * with can be none, a listener or a TIME_WAIT stub, which are no connections.
 */
#pragma once

/* The whole, known socket behind what a tracepoint calls a socket. */
static __always_inline struct connection *find_whole(const struct sock *sk)
{
	__u8 state;

	if (!sk)
		return NULL;
	state = sk->__sk_common.skc_state;
	if (state == TimeWait || state == NewSynRecv || state == Listen)
		return NULL;
	return find(sk);
}

static __always_inline int tell_reset(const struct sock *sk, bool received, __u32 reason)
{
	struct connection *c = find_whole(sk);
	struct tcp_reset *e;

	if (!c || !(e = RESERVE(tcp_reset, TcpReset)))
		return 0;
	nobody(&e->hdr);
	e->hdr.aux = received | (__u32)sk->__sk_common.skc_state << 8 | reason << 16;
	e->conn = id_of(c);
	SUBMIT(e);
	return 0;
}

SEC("tp_btf/tcp_send_reset")
int tcp_reset_sent(__u64 *ctx)
{
	__u32 reason = 0;

	if (bpf_core_type_exists(enum sk_rst_reason))
		reason = ctx[2];
	return tell_reset((const struct sock *)ctx[0], false, reason);
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_reset_received, const struct sock *sk)
{
	return tell_reset(sk, true, 0);
}

SEC("tp_btf/tcp_retransmit_skb")
int tcp_retransmitted(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	struct tcp_retransmit *e;
	struct connection *c;

	/* Newer kernels (6.18) also tell of what could not be sent. */
	if (bpf_core_field_exists(struct trace_event_raw_tcp_retransmit_skb, err) && (int)ctx[2])
		return 0;
	c = find_whole(sk);
	if (!c || !(e = RESERVE(tcp_retransmit, TcpRetransmit)))
		return 0;
	nobody(&e->hdr);
	e->hdr.aux = sk->__sk_common.skc_state;
	e->conn = id_of(c);
	SUBMIT(e);
	return 0;
}
