/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The sockets that tasks hold open, of every network namespace, when the
 * recording begins and when it ends. They are written to the iterator's file
 * and not to the ring: a reader that is slow then loses none.
 */
#pragma once

enum { AtStart, AtEnd, ListenersOnly };

__u32 walk = AtStart; /* what the file tables are walked for; set before each walk */

static __always_inline void task_hdr(struct hdr *h, struct who *w, const struct task_struct *task, __u8 kind)
{
	fill(h, kind);
	h->pid = task->tgid;
	h->tid = task->pid;
	w->uid = task->cred->euid.val;
	bpf_probe_read_kernel_str(w->comm, sizeof(w->comm), task->comm);
}

static __always_inline void write_socket(struct bpf_iter__task_file *ctx, const struct task_struct *task,
					 struct connection *c, const struct tcp_sock *tp)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct tcp_endpoints at = {};
	struct tcp_snapshot e = {};
	struct counters n;

	/* If the file's page is full, the kernel drops what was written for this
	 * socket and comes again: only what succeeds may change anything. */
	if (!c->told || walk == AtStart) {
		task_hdr(&at.hdr, &at.who, task, TcpEndpoints);
		read_endpoints(&at, sk, id_of(c));
		if (bpf_seq_write(ctx->meta->seq, &at, sizeof(at)))
			return;
	}
	task_hdr(&e.hdr, &e.who, task, TcpSnapshot);
	e.hdr.aux = walk | (__u32)sk->__sk_common.skc_state << 8;
	e.fd = ctx->fd;
	e.conn = id_of(c);
	read_counters(&n, tp);
	e.tx = n.tx;
	e.rx = n.rx;
	e.retransmits = n.retransmits;
	e.srtt = tp->srtt_us >> 3;
	e.min_rtt = n.min_rtt;
	if (bpf_seq_write(ctx->meta->seq, &e, sizeof(e)))
		return;
	if (at.lport && (at.rport || sk->__sk_common.skc_state == Listen))
		c->told = 1;
}

SEC("iter/task_file")
int tcp_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct connection *c;
	struct tcp_sock *tp;
	struct socket *s;
	struct sock *sk;
	__u8 state;
	bool wanted;

	if (!task || !file || !(s = bpf_sock_from_file(file)) || !(sk = s->sk))
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP || !(tp = bpf_skc_to_tcp_sock(sk)))
		return 0;
	wanted = tcp_all || is_target(task->tgid);
	state = sk->__sk_common.skc_state;
	if (state == Listen && wanted && !tcp_all) {
		add_listener(sk);
		if (sk->__sk_common.skc_state != Listen) /* shut down meanwhile, which found none to remove */
			remove_listener(sk);
	}
	if (state == Close || walk == ListenersOnly)
		return 0;
	c = find(sk);
	if (!c) {
		if (!wanted && !is_accepted(sk))
			return 0;
		c = add(sk, 0);
		if (!c)
			return 0;
		tell_accepted(sk, c);
	}
	write_socket(ctx, task, c, tp);
	return 0;
}
