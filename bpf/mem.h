/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * mmap, munmap, mremap and brk of the targets, told when they have succeeded. A
 * file mapping that can be executed is also told as a mapping, with what names
 * the file.
 */
#pragma once

#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MREMAP_FIXED 2
#define PAGE_MASK 4095ull

#ifndef PT_REGS_PARM6_CORE_SYSCALL /* libbpf has it since 1.2 */
#if defined(__TARGET_ARCH_x86)
#define PT_REGS_PARM6_CORE_SYSCALL(x) BPF_CORE_READ(x, r9)
#else
#define PT_REGS_PARM6_CORE_SYSCALL(x) BPF_CORE_READ((const struct user_pt_regs *)(x), regs[5])
#endif
#endif

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

/* A system call's arguments are still in the registers when it returns, so
 * that no second hook has to keep them. */
struct args {
	__u64 a[6];
};

static __always_inline void read_syscall(struct args *args)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	args->a[0] = PT_REGS_PARM1_CORE_SYSCALL(regs);
	args->a[1] = PT_REGS_PARM2_CORE_SYSCALL(regs);
	args->a[2] = PT_REGS_PARM3_CORE_SYSCALL(regs);
	args->a[3] = PT_REGS_PARM4_CORE_SYSCALL(regs);
	args->a[4] = PT_REGS_PARM5_CORE_SYSCALL(regs);
	args->a[5] = PT_REGS_PARM6_CORE_SYSCALL(regs);
}

/* MAP_FAILED and friends: the last page of the address space. */
static __always_inline bool failed(__s64 ret)
{
	return ret < 0 && ret >= -4095;
}

/* Whether a successful call of this task is to be told, and with what arguments. */
static __always_inline bool told(struct sys_exit *ctx, struct args *args)
{
	if (failed(ctx->ret) || !is_target(bpf_get_current_pid_tgid() >> 32))
		return false;
	read_syscall(args);
	return true;
}

/* Whether the thread is inside an allocator, which has its own reasons. */
static __always_inline __u32 nested(void)
{
	struct stack *unused;
	struct state *s = known_state(&unused);

	return s && s->call.sp && call_runs(&s->call);
}

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

static __always_inline void emit_mapping(const struct args *args, __u64 start)
{
	struct file *f = fd_file((__u32)args->a[4]);
	struct mapping *e;

	if (!f)
		return;
	e = RESERVE(mapping, Mapping);
	if (!e)
		return;
	e->start = start;
	e->length = args->a[1];
	e->offset = args->a[5];
	e->ino = BPF_CORE_READ(f, f_inode, i_ino);
	e->dev = BPF_CORE_READ(f, f_inode, i_sb, s_dev);
	e->pad = 0;
	if (bpf_probe_read_kernel_str(e->name, sizeof(e->name), BPF_CORE_READ(f, f_path.dentry, d_name.name)) < 0)
		e->name[0] = 0;
	SUBMIT_NOW(e);
}

static __always_inline __u64 page_end(__u64 addr)
{
	return (addr + PAGE_MASK) & ~PAGE_MASK;
}

/* Whether all that is mapped is told, or just code. */
const volatile bool tell_memory = true;

/* Code comes, and goes, for signatures of stacks: before anything is told. Reports
 * whether some may have gone. */
static __always_inline bool code_mapped(__u64 start, __u64 length, bool exec, bool over)
{
	__u64 end = page_end(start + length);
	bool gone = false;
	struct code *c;

	if (stacks_by != Snapshots)
		return over;
	if (!exec && !over)
		return false;
	c = add_code((__u64)current_mm());
	if (!c)
		return over;
	if (over)
		gone = code_vanishes(c, start, end);
	if (exec)
		code_appears(c, start, end);
	return gone;
}

SEC("tracepoint/syscalls/sys_exit_mmap")
int exit_mmap(struct sys_exit *ctx)
{
	struct args args;
	struct map *e;

	if (!told(ctx, &args))
		return 0;
	code_mapped(ctx->ret, args.a[1], args.a[2] & PROT_EXEC, args.a[3] & MAP_FIXED);
	e = tell_memory ? RESERVE(map, Map) : NULL;
	if (e) {
		e->hdr.aux = nested();
		e->addr = ctx->ret;
		e->length = args.a[1];
		e->prot = args.a[2];
		e->flags = args.a[3];
		e->fd = args.a[4];
		e->pad = 0;
		SUBMIT(e);
	}
	if ((args.a[2] & PROT_EXEC) && !(args.a[3] & MAP_ANONYMOUS))
		emit_mapping(&args, ctx->ret);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_munmap")
int exit_munmap(struct sys_exit *ctx)
{
	struct args args;
	struct unmap *e;

	if (!told(ctx, &args))
		return 0;
	if (!code_mapped(args.a[0], args.a[1], false, true) && !tell_memory)
		return 0;
	e = RESERVE(unmap, Unmap);
	if (!e)
		return 0;
	e->hdr.aux = nested();
	e->addr = args.a[0];
	e->length = args.a[1];
	SUBMIT(e);
	return 0;
}

/* Whether what was at an address may have been code. */
static __always_inline bool moved_code(__u64 from)
{
	struct code *c = code_of((__u64)current_mm());

	return c && is_code(c, from);
}

SEC("tracepoint/syscalls/sys_exit_mremap")
int exit_mremap(struct sys_exit *ctx)
{
	struct args args;
	struct remap *e;

	if (!told(ctx, &args))
		return 0;
	/* What is moved may be code, which is as rare as it is cheap to take for it. */
	code_mapped(args.a[0], args.a[1], false, true);
	code_mapped(ctx->ret, args.a[2], moved_code(args.a[0]), args.a[3] & MREMAP_FIXED);
	e = tell_memory ? RESERVE(remap, Remap) : NULL;
	if (!e)
		return 0;
	e->hdr.aux = nested();
	e->old = args.a[0];
	e->old_length = args.a[1];
	e->addr = ctx->ret;
	e->length = args.a[2];
	SUBMIT(e);
	return 0;
}

/* brk(0) asks where the break is; one that cannot be had leaves it there. The
 * reader knows the break of before. */
SEC("tracepoint/syscalls/sys_exit_brk")
int exit_brk(struct sys_exit *ctx)
{
	struct args args;
	struct brk *e;

	if (!told(ctx, &args) || !(e = RESERVE(brk, Brk)))
		return 0;
	e->hdr.aux = nested();
	e->asked = args.a[0];
	e->now = ctx->ret;
	SUBMIT(e);
	return 0;
}

/* Compilers that work at run time write their code first. */
SEC("tracepoint/syscalls/sys_exit_mprotect")
int exit_mprotect(struct sys_exit *ctx)
{
	struct args args;

	if (told(ctx, &args))
		code_mapped(args.a[0], args.a[1], args.a[2] & PROT_EXEC, false);
	return 0;
}
