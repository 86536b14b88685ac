/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The kernel's stacks at what happens to connections. These programs are attached
 * only where stacks are asked for, and after those that tell what happened: a
 * connection that those did not take is none here.
 */
#pragma once

static __always_inline int tell_stack(void *ctx, const struct connection *c, enum tcp_moment at, int old, int new)
{
	struct tcp_stack *e;

	if (!c || !(e = RESERVE(tcp_stack, TcpStack)))
		return 0;
	nobody(&e->hdr);
	e->hdr.aux = at | (old & 0xff) << 8 | (new & 0xff) << 16;
	e->conn = id_of(c);
	e->bytes = bpf_get_stack(ctx, e->ip, sizeof(e->ip), 0);
	SUBMIT(e);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int tcp_state_stack(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	return tell_stack(ctx, find(sk), AtState, (int)ctx[1], (int)ctx[2]);
}

SEC("tp_btf/tcp_send_reset")
int tcp_reset_sent_stack(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	struct connection *c = find_whole(sk);

	return tell_stack(ctx, c, AtResetSent, c ? sk->__sk_common.skc_state : 0, 0);
}

SEC("tp_btf/tcp_receive_reset")
int tcp_reset_received_stack(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	struct connection *c = find_whole(sk);

	return tell_stack(ctx, c, AtResetReceived, c ? sk->__sk_common.skc_state : 0, 0);
}

SEC("tp_btf/tcp_retransmit_skb")
int tcp_retransmit_stack(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	struct connection *c = find_whole(sk);

	if (bpf_core_field_exists(struct trace_event_raw_tcp_retransmit_skb, err) && (int)ctx[2])
		return 0;
	return tell_stack(ctx, c, AtRetransmit, c ? sk->__sk_common.skc_state : 0, 0);
}
