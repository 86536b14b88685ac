/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Declared probes: one pair of programs for all of them. What is to be read at a
 * place, and under which condition, is data (struct probe) that user space has
 * compiled; nothing is compiled here or at run time.
 *
 * A call's record is written at the entry, in a room of the thread's own, and
 * sent at the return from there: one copy. Which call a return belongs to is
 * told by the stack pointer.
 */
#pragma once

#define MAX_TERMS 24
#define MAX_WORDS 4 /* texts that a filter compares with */
#define WORD_LEN 64
#define MAX_STEPS 4
#define MAX_LIVE 64   /* calls that a thread is in: the kernel sees the return of no more (MAX_URETPROBE_DEPTH) */
#define MAX_CHAIN 4   /* probes at one place */
#define SCAN_LEN 4096 /* how far a text is looked for its end at once, beyond what is kept */
#define MAX_SCANS 4096 /* 16 MiB less a byte each, which takes the thread that is probed some 2 ms */
#define MAX_SCANS_KERNEL 256 /* where nothing else can run meanwhile */
#define AT_LEAST (1u << 31) /* in a text's length: its end was not found */
#define MAX_PAGES 6 /* that a text lies in: 16 KiB and what is at both ends */

/* Where a value starts from: the registers as struct pt_regs has them, then these. */
enum slot {
	SlotZero = 40,
	SlotCtx, /* the record of a tracepoint */
	SlotPid,
	SlotTid,
	SlotUid,
	SlotCgroup,
	SlotCpu,
	SlotDuration,
	SlotCount = 48,
};

#if defined(__TARGET_ARCH_x86)
#define REGISTERS 21
#else
#define REGISTERS 33
#endif

enum fetch_flag {
	FetchSigned = 1,
	FetchLate = 2,	  /* at the return */
	FetchText = 4,	  /* what the value points to */
	FetchStr = 8,	  /* up to a NUL */
	FetchComm = 16,	  /* the thread's name */
	FetchInCtx = 32,  /* the value is an offset in the record of a tracepoint */
	FetchFromEntry = 64, /* late, but from a register of the entry, which num[] has */
	FetchDelta = 128, /* late: what the memory at the address grew by since the entry */
};

struct fetch {
	__u8 base;   /* slot */
	__u8 index;  /* slot, shifted left by scale and added; SlotZero */
	__u8 scale;
	__u8 steps;
	__u8 size;   /* bytes of the number: 1 to 8 */
	__u8 flags;
	__u8 length; /* the fetch that has a buf's length, or a delta's address; MAX_FETCHES: none */
	__u8 pad;
	__u32 limit; /* of a text: bytes kept at most */
	__s32 off[MAX_STEPS + 1];
};

enum term_op {
	TermEq = 1,
	TermNe,
	TermLt,
	TermLe,
	TermGt,
	TermGe,
	TermTextEq,
	TermTextNe,
	TermAnd,
	TermOr,
	TermNot,
};

enum probe_flag {
	ProbeReturns = 1,
	ProbeLateFilter = 2,
	ProbeStack = 4,
	ProbeCaller = 8,
	ProbeKernel = 16, /* pointers may lead into the kernel */
	ProbeCgroup = 32,
	ProbeUid = 64,
	ProbeInside = 128, /* it is not at a function's entry */
	ProbeResult = 256, /* a value starts from a register as it is at the return */
	ProbeCode = 512, /* it tells of places in code */
};

struct term {
	__u8 op;
	__u8 fetch;
	__u8 is_signed;
	__u8 word;
	union { /* so that user space is told of these */
		__u32 pad;
		enum slot slot_;
		enum fetch_flag fetch_flag_;
		enum term_op term_op_;
		enum probe_flag probe_flag_;
	};
	__u64 mask;
	__u64 value;
};

struct probe {
	__u32 next; /* at the same place; 0: none */
	__u32 room; /* bytes that its record takes at most */
	__u8 fetches;
	__u8 terms;
	__u16 flags;
	__u32 late; /* fetches at the return, a bit each */
	struct fetch fetch[MAX_FETCHES];
	struct term term[MAX_TERMS];
	char word[MAX_WORDS][WORD_LEN];
};

/* By their number, from 1. The size is set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe);
} probes SEC(".maps");

/* Whether there are targets. Of what happens in the kernel, only what their threads do is
 * recorded then. */
const volatile bool targeted = false;

/* Which probe is where, as functions in heap.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} places SEC(".maps");

/* A call that a thread is in. */
struct live {
	__u64 sp;
	__u32 at;    /* of its record in the room */
	__u32 probe; /* 0: its filter says no, or there was no room: it is only known to be there */
	__u32 of;    /* its probe all the same */
	__u32 depth;
	__u32 size;
	__u32 pad;
};

struct caller {
	__u64 slot[SlotCount];
	__u64 returned; /* stack pointer of the call that returned last, until the next begins */
	__u32 calls;    /* live */
	__u32 at;       /* where the room is free */
	__u32 pos;      /* where the record that is being written goes on */
	__u32 bits;     /* of passes() */
	struct live live[MAX_LIVE];
	char word[WORD_LEN];
	char room[]; /* of the size that the maps' values leave */
};

/* How far into caller.room a record may begin, how long one may get, and of that
 * what a text may take that is being read. Set at load, with the maps' value size:
 * two numbers rather than their sum, since the verifier does not relate what it
 * knows of a place to what it knows of a length. */
const volatile __u32 caller_room = 1 << 16;
const volatile __u32 record_room = 1 << 15;
const volatile __u32 text_room = 1 << 14;

/* What is compared must be what is used, not a copy of it. */
#define KEEP(v) asm volatile("" : "+r"(v))


/* The values' size is set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct caller);
} callers SEC(".maps");

/* A caller to start from. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct caller);
} no_caller SEC(".maps");

static __always_inline struct caller *this_caller(__u64 key)
{
	struct caller *c = bpf_map_lookup_elem(&callers, &key);
	__u32 zero = 0;

	if (c)
		return c;
	c = bpf_map_lookup_elem(&no_caller, &zero);
	if (!c)
		return NULL;
	bpf_map_update_elem(&callers, &key, c, BPF_NOEXIST);
	return bpf_map_lookup_elem(&callers, &key);
}

/* User code and kernel code of a thread have stacks of their own, and the idle
 * tasks of all CPUs one number. */
#define KERNEL_SIDE (1ull << 32)

static __always_inline __u64 caller_key(bool kernel)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();

	if (!kernel)
		return tid;
	if (!tid)
		return 2 * KERNEL_SIDE | bpf_get_smp_processor_id();
	return KERNEL_SIDE | tid;
}

#define PAGE 4096
#define EFAULT 14

/*
 * Nothing is in the first page (vm.mmap_min_addr): that is NULL, with the offset of a
 * member. To find it out by a page fault, or two, takes longer than all the rest.
 *
 * Programs in user code may sleep (user), so a page that is not in memory, as that
 * of a constant which nobody has read yet, can be brought in. They try without
 * at first, which is cheaper and nearly always enough. Those in the kernel may
 * not; there pointers lead into the kernel as well.
 */
static __always_inline long read_memory(bool user, void *to, __u32 n, __u64 from)
{
	long err;

	if (from < PAGE)
		return -EFAULT;
	if (!user && (__s64)from < 0)
		return bpf_probe_read_kernel(to, n, (void *)from);
	err = bpf_probe_read_user(to, n, (void *)from);
	if (user && err)
		err = bpf_copy_from_user(to, n, (void *)from);
	return err;
}

struct pages {
	__u64 from;
	__u32 n;
};

/* Brings in one page of a text. */
static long bring_page(__u32 i, struct pages *p)
{
	__u64 page = i ? (p->from & ~(PAGE - 1ull)) + i * PAGE : p->from;
	char byte;

	return (i && page - p->from >= p->n) || bpf_copy_from_user(&byte, 1, (void *)page);
}

/* Reads a text of up to n-1 bytes, which may lie in a page that is there and
 * one that is not. (bpf_copy_from_user_str came with 6.12.) */
static __always_inline long read_text(bool user, void *to, __u32 n, __u64 from)
{
	struct pages p = {.from = from, .n = n};
	long got;

	if (from < PAGE)
		return -EFAULT;
	if (!user && (__s64)from < 0)
		return bpf_probe_read_kernel_str(to, n, (void *)from);
	got = bpf_probe_read_user_str(to, n, (void *)from);
	if (!user || got >= 0)
		return got;
	bpf_loop(MAX_PAGES, bring_page, &p, 0);
	return bpf_probe_read_user_str(to, n, (void *)from);
}
