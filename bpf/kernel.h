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
	unsigned long di, si, dx, cx, r8, r9, ax, bp, sp, ip;
} __core;
#else
struct user_pt_regs {
	unsigned long regs[31];
	unsigned long sp;
	unsigned long pc;
} __core;
struct pt_regs;
#endif

struct mm_struct;

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
	unsigned long i_ino;
	struct super_block *i_sb;
} __core;

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
} __core;

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

struct task_struct {
	int pid;
	int tgid;
	int exit_code;
	char comm[16];
	struct mm_struct *mm;
	struct files_struct *files;
	struct signal_struct *signal;
	const struct cred *cred;
} __core;

struct linux_binprm {
	const char *filename;
} __core;
