/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * mmap, munmap, mremap and brk of the targets: what they asked for is read at
 * the system call's entry, and told if it succeeded. A file mapping that can
 * be executed is also told as a mapping, with what names the file.
 */
#pragma once

#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20

struct sys_enter {
	__u64 common;
	__s64 nr;
	__u64 args[6];
};

struct sys_exit {
	__u64 common;
	__s64 nr;
	__s64 ret;
};

static __always_inline struct thread *target_thread(void)
{
	if (!is_target(bpf_get_current_pid_tgid() >> 32))
		return NULL;
	return this_thread();
}

/* Only the arguments that the call has: the kernel refuses a program that reads
 * beyond the tracepoint's record. */
static __always_inline int save_args(struct sys_enter *ctx, int n)
{
	struct thread *t = target_thread();

	if (t)
		for (int i = 0; i < n; i++)
			t->arg[i] = ctx->args[i];
	return 0;
}

/* MAP_FAILED and friends: the last page of the address space. */
static __always_inline bool failed(__s64 ret)
{
	return ret < 0 && ret >= -4095;
}

SEC("tracepoint/syscalls/sys_enter_mmap")
int enter_mmap(struct sys_enter *ctx) { return save_args(ctx, 6); }

SEC("tracepoint/syscalls/sys_enter_munmap")
int enter_munmap(struct sys_enter *ctx) { return save_args(ctx, 2); }

SEC("tracepoint/syscalls/sys_enter_mremap")
int enter_mremap(struct sys_enter *ctx) { return save_args(ctx, 5); }

SEC("tracepoint/syscalls/sys_enter_brk")
int enter_brk(struct sys_enter *ctx) { return save_args(ctx, 1); }

static __always_inline struct file *fd_file(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file **fds, *f = NULL;

	if (!fdt || fd >= BPF_CORE_READ(fdt, max_fds))
		return NULL;
	fds = BPF_CORE_READ(fdt, fd);
	bpf_probe_read_kernel(&f, sizeof(f), &fds[fd]);
	return f;
}

static __always_inline void emit_mapping(const struct thread *t, __u64 start)
{
	struct file *f = fd_file((__u32)t->arg[4]);
	struct mapping *e;

	if (!f)
		return;
	e = RESERVE(mapping, Mapping);
	if (!e)
		return;
	e->start = start;
	e->length = t->arg[1];
	e->offset = t->arg[5];
	e->ino = BPF_CORE_READ(f, f_inode, i_ino);
	e->dev = BPF_CORE_READ(f, f_inode, i_sb, s_dev);
	e->pad = 0;
	if (bpf_probe_read_kernel_str(e->name, sizeof(e->name), BPF_CORE_READ(f, f_path.dentry, d_name.name)) < 0)
		e->name[0] = 0;
	SUBMIT(e);
}

SEC("tracepoint/syscalls/sys_exit_mmap")
int exit_mmap(struct sys_exit *ctx)
{
	struct thread *t;
	struct map *e;

	if (failed(ctx->ret) || !(t = target_thread()))
		return 0;
	e = RESERVE(map, Map);
	if (e) {
		e->hdr.aux = in_allocator(t);
		e->addr = ctx->ret;
		e->length = t->arg[1];
		e->prot = t->arg[2];
		e->flags = t->arg[3];
		e->fd = t->arg[4];
		e->pad = 0;
		SUBMIT(e);
	}
	if ((t->arg[2] & PROT_EXEC) && !(t->arg[3] & MAP_ANONYMOUS))
		emit_mapping(t, ctx->ret);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_munmap")
int exit_munmap(struct sys_exit *ctx)
{
	struct thread *t;
	struct unmap *e;

	if (failed(ctx->ret) || !(t = target_thread()) || !(e = RESERVE(unmap, Unmap)))
		return 0;
	e->hdr.aux = in_allocator(t);
	e->addr = t->arg[0];
	e->length = t->arg[1];
	SUBMIT(e);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_mremap")
int exit_mremap(struct sys_exit *ctx)
{
	struct thread *t;
	struct remap *e;

	if (failed(ctx->ret) || !(t = target_thread()) || !(e = RESERVE(remap, Remap)))
		return 0;
	e->hdr.aux = in_allocator(t);
	e->old = t->arg[0];
	e->old_length = t->arg[1];
	e->addr = ctx->ret;
	e->length = t->arg[2];
	SUBMIT(e);
	return 0;
}

/* brk(0) asks; brk to where the break cannot go returns where it is. */
SEC("tracepoint/syscalls/sys_exit_brk")
int exit_brk(struct sys_exit *ctx)
{
	struct thread *t = target_thread();
	struct brk *e;

	if (!t || !t->arg[0] || (__u64)ctx->ret != t->arg[0] || !(e = RESERVE(brk, Brk)))
		return 0;
	e->hdr.aux = in_allocator(t);
	e->old = 0;
	e->new = ctx->ret;
	SUBMIT(e);
	return 0;
}
