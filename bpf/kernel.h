/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The kernel's types, as far as they are read here. CO-RE relocates each access
 * to where the running kernel has the field, so order and padding are free and
 * the tree needs no vmlinux.h.
 */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

/* The registers have the kernel's names below, and bpf_tracing.h is to use those. */
#define __VMLINUX_H__

#define __core __attribute__((preserve_access_index))

typedef struct {
	int counter;
} __core atomic_t;

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, si, dx, cx, r8, r9, r10, ax, bp, sp, ip, orig_ax, bx, r12, r13, r14, r15;
} __core;
#else
struct user_pt_regs {
	unsigned long regs[31];
	unsigned long sp;
	unsigned long pc;
} __core;
struct pt_regs {
	int syscallno;
} __core;
#endif


struct signal_struct {
	atomic_t live;
	int group_exit_code;
} __core;

struct qstr {
	const unsigned char *name;
} __core;

struct dentry {
	struct qstr d_name;
} __core;

struct path {
	struct dentry *dentry;
} __core;

struct super_block {
	__u32 s_dev;
} __core;

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
	struct super_block *i_sb;
} __core;

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
} __core;

struct xol_area {
	unsigned long vaddr;
} __core;

struct uprobes_state {
	struct xol_area *xol_area;
} __core;

struct mm_struct {
	unsigned long start_code;
	unsigned long end_code;
	unsigned long start_stack;
	unsigned long saved_auxv[50];
	struct {
		int counter;
	} mm_users;
	struct file *exe_file;
	struct uprobes_state uprobes_state;
} __core;

/* A call whose return is probed. */
struct return_instance {
	unsigned long stack; /* where its return address was */
	unsigned long orig_ret_vaddr;
	struct return_instance *next;
} __core;

struct uprobe_task {
	struct return_instance *return_instances;
} __core;

#if defined(__TARGET_ARCH_x86)
struct thread_struct {
	unsigned long fsbase;
} __core;
#define THREAD_POINTER(task) ((task)->thread.fsbase)
#else
struct thread_struct {
	struct {
		unsigned long tp_value;
	} uw;
} __core;
#define THREAD_POINTER(task) ((task)->thread.uw.tp_value)
#endif

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} __core;

struct files_struct {
	struct fdtable *fdt;
} __core;

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t euid;
} __core;

#define PF_EXITING 4 /* in flags */

struct task_struct {
	int pid;
	int tgid;
	unsigned int flags;
	int exit_code;
	char comm[16];
	struct task_struct *group_leader;
	__u64 start_time;
	__u64 self_exec_id;
	struct mm_struct *mm;
	struct files_struct *files;
	struct signal_struct *signal;
	const struct cred *cred;
	struct uprobe_task *utask;
	unsigned long sas_ss_sp; /* sigaltstack(2) */
	unsigned long sas_ss_size;
	struct thread_struct thread;
} __core;

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	struct mm_struct *vm_mm;
	unsigned long vm_flags;
} __core;

struct linux_binprm {
	const char *filename;
} __core;

/* Sockets. */

typedef struct {
	__s64 counter;
} __core atomic64_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
} __core;

struct ns_common {
	unsigned int inum;
} __core;

struct net {
	struct ns_common ns;
} __core;

typedef struct {
	struct net *net;
} __core possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
} __core;

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	unsigned short sk_type;
	unsigned short sk_protocol;
	__u8 sk_shutdown;
	kuid_t sk_uid;
} __core;

struct socket {
	struct file *file;
	struct sock *sk;
} __core;

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
} __core;

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct {
		__u32 lrcvtime;
	} icsk_ack;
} __core;

struct minmax_sample {
	__u32 t;
	__u32 v;
} __core;

struct minmax {
	struct minmax_sample s[3];
} __core;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 segs_in;
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u32 lsndtime;
	__u32 srtt_us;
	struct minmax rtt_min;
	__u32 total_retrans;
} __core;

struct sk_buff;

/* From Linux 6.10 on, which then is also told to tcp_send_reset. */
enum sk_rst_reason {
	SK_RST_REASON_NOT_SPECIFIED,
};

/* Where it has the field err (6.18), that is also told to the program. */
struct trace_event_raw_tcp_retransmit_skb {
	int err;
} __core;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __core;

struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct vm_area_struct *vma;
} __core;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} __core;
