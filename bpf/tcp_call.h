/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * connect and accept: who owns a connection. The system call names a file
 * descriptor; the way from there to the socket is the task's file table.
 */
#pragma once

#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* ERESTARTSYS and its kin: a signal ends the call, or it begins anew. */
#define is_restart(ret) ((ret) <= -512 && (ret) >= -516)
#define EINTR 4

static __always_inline const struct sock *fd_tcp(__u32 fd)
{
	struct file *f = fd_file(fd);
	struct socket *s;
	struct sock *sk;

	if (!f || (BPF_CORE_READ(f, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	s = BPF_CORE_READ(f, private_data);
	if (!s || BPF_CORE_READ(s, file) != f)
		return NULL;
	sk = BPF_CORE_READ(s, sk);
	if (!sk || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || BPF_CORE_READ(sk, sk_type) != SOCK_STREAM)
		return NULL;
	return sk;
}

/* find for where the kernel does not vouch for the socket. */
static __always_inline struct connection *find_unsure(const struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct connection *c = bpf_map_lookup_elem(&connections, &key);

	if (c && c->cookie != (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter))
		return NULL;
	return c;
}

/* read_sockaddr reads where to; false if that is no address of TCP. */
static __always_inline bool read_sockaddr(struct connecting *c, const void *addr, __u64 len)
{
	struct {
		__u16 family;
		__u16 port;
		union {
			__u32 v4;
			struct {
				__u32 flow;
				__u32 v6[4];
			};
		};
	} a = {};

	if (len >= 24)
		bpf_probe_read_user(&a, 24, addr);
	else if (len >= 16)
		bpf_probe_read_user(&a, 16, addr);
	c->rport = bpf_ntohs(a.port);
	__builtin_memset(c->raddr, 0, sizeof(c->raddr));
	if (a.family == AF_INET6 && len >= 24 && !is_mapped(a.v6)) {
		c->family = 6;
		__builtin_memcpy(c->raddr, a.v6, sizeof(a.v6));
		return true;
	}
	c->family = 4;
	__builtin_memcpy(c->raddr, a.family == AF_INET ? &a.v4 : &a.v6[3], sizeof(a.v4));
	return a.family == AF_INET || (a.family == AF_INET6 && len >= 24);
}

SEC("tracepoint/syscalls/sys_enter_connect")
int enter_connect(struct sys_enter *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct connecting call = {};
	struct connection *c;
	const struct sock *sk;

	if (!wants_current() || !(sk = fd_tcp(ctx->args[0])))
		return 0;
	if (!read_sockaddr(&call, (const void *)ctx->args[1], ctx->args[2]))
		return 0;
	call.time = bpf_ktime_get_ns();
	call.sk = (__u64)sk;
	call.netns = netns_of(sk);
	call.fd = ctx->args[0];
	c = find_unsure(sk);
	if (c && c->state != Close) /* asks how an earlier call that did not wait is doing */
		call.conn = id_of(c);
	if (bpf_map_update_elem(&connects, &tid, &call, BPF_ANY))
		count_lost(TcpConnect);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect(struct sys_exit *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct connecting *call = bpf_map_lookup_elem(&connects, &tid);
	struct tcp_connect *e;

	if (!call)
		return 0;
	e = RESERVE(tcp_connect, TcpConnect);
	if (e) {
		e->hdr.aux = is_restart(ctx->ret) ? EINTR : (__u32)-ctx->ret;
		current_who(&e->who);
		e->fd = call->fd;
		e->conn = call->conn;
		e->duration = e->hdr.time - call->time;
		__builtin_memcpy(e->raddr, call->raddr, sizeof(e->raddr));
		e->netns = call->netns;
		e->rport = call->rport;
		e->family = call->family;
		e->pad = 0;
		SUBMIT(e);
	}
	bpf_map_delete_elem(&connects, &tid);
	return 0;
}

static __always_inline int exit_accepting(struct sys_exit *ctx)
{
	struct tcp_accept early = {}, *e;
	const struct sock *sk;
	struct connection *c;

	if (ctx->ret < 0 || !(sk = fd_tcp(ctx->ret)))
		return 0;
	c = find_unsure(sk);
	if (!c) {
		if (!wants_current())
			return 0;
		fill(&early.hdr, TcpAccept);
		current_who(&early.who);
		early.hdr.aux = ctx->ret;
		if (!add_accepted(sk, &early)) {
			count_lost(TcpAccept);
			return 0;
		}
		/* Who finds the entry of both sides tells. */
		c = find_unsure(sk);
		if (!c || !remove_accepted(sk))
			return 0;
	}
	e = RESERVE(tcp_accept, TcpAccept);
	if (!e)
		return 0;
	e->hdr.aux = ctx->ret;
	current_who(&e->who);
	e->pad = 0;
	e->conn = id_of(c);
	SUBMIT(e);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept")
int exit_accept(struct sys_exit *ctx) { return exit_accepting(ctx); }

SEC("tracepoint/syscalls/sys_exit_accept4")
int exit_accept4(struct sys_exit *ctx) { return exit_accepting(ctx); }
