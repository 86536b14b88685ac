/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where each recorded address space has code: what tells a return address on a
 * stack from other words. It is kept by the hooks that see code come and go,
 * so that it is never behind.
 */
#pragma once

#define PROT_EXEC 4
#define GRAIN_BITS 16 /* of the bitmap: 64 KiB */
#define CODE_BITS (1 << 15)
#define CODE_RANGES 256

#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

struct range {
	__u64 start;
	__u64 end;
};

struct code {
	/* What is mapped as code, as a number: it changes when code goes away, so
	 * that addresses of the same number mean the same. Unique in the recording;
	 * a forked child begins with its parent's. */
	__u32 number;
	/* Whether all code is in the bitmap. It is not yet where a process was
	 * there before the recording. */
	__u32 whole;
	__u32 walked; /* once */
	__u32 many; /* there is, or may be, code that is not in at */
	__u32 taken; /* some was taken out of at */
	__u32 split; /* it has stacks of pieces (splitstack.h) */
	/* A bit for every grain that code is in, addresses modulo 2 GiB. */
	__u64 bits[CODE_BITS / 64];
	/* The very places; end 0: free. A child gets a copy at any moment: the end is
	 * written before the start, and cleared after it, so that half a range is one
	 * that has more in it, and never less. */
	struct range at[CODE_RANGES];
};

/* By the address of the mm_struct. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 14);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct code);
} codes SEC(".maps");

__u32 code_number = 0; /* the last that was given */

static const struct code no_code;

static __always_inline struct mm_struct *current_mm(void)
{
	return bpf_get_current_task_btf()->mm;
}

static __always_inline struct code *code_of(__u64 mm)
{
	return bpf_map_lookup_elem(&codes, &mm);
}

static __always_inline void renumber(struct code *c)
{
	c->number = __sync_fetch_and_add(&code_number, 1) + 1;
}

/* The code of an address space, all of which is yet to be told if it is new. */
static __always_inline struct code *add_code(__u64 mm)
{
	struct code *c = code_of(mm);

	if (c)
		return c;
	bpf_map_update_elem(&codes, &mm, &no_code, BPF_NOEXIST);
	c = code_of(mm);
	if (c && !c->number)
		renumber(c);
	return c;
}

static __always_inline bool is_code(const struct code *c, __u64 addr)
{
	return c->bits[(addr >> (GRAIN_BITS + 6)) & (CODE_BITS / 64 - 1)] >> ((addr >> GRAIN_BITS) & 63) & 1;
}

/* A range that comes or goes, as the loops below have it. */
struct change {
	struct code *code;
	__u64 start, end;
	__u64 from, to; /* grains */
	bool found;
};

/* The bits of grains [from, to) that are in the word of from. */
static __always_inline __u64 bits_from(__u64 from, __u64 to)
{
	__u64 ones = ~0ull << (from & 63);

	if ((from | 63) >= to) /* it ends in this word */
		ones &= ~0ull >> (63 - ((to - 1) & 63));
	return ones;
}

static long mark_word(__u32 i, struct change *c)
{
	if (c->from >= c->to)
		return 1;
	__sync_fetch_and_or(&c->code->bits[c->from >> 6 & (CODE_BITS / 64 - 1)], bits_from(c->from, c->to));
	c->from = (c->from | 63) + 1;
	return 0;
}

static long test_word(__u32 i, struct change *c)
{
	if (c->from >= c->to)
		return 1;
	c->found = c->code->bits[c->from >> 6 & (CODE_BITS / 64 - 1)] & bits_from(c->from, c->to);
	c->from = (c->from | 63) + 1;
	return c->found;
}

static long put_range(__u32 i, struct change *c)
{
	struct range *r;

	if (i >= CODE_RANGES)
		return 1;
	r = &c->code->at[i];
	c->found = r->start == c->start && r->end == c->end;
	if (c->found || r->end)
		return c->found;
	if (__sync_val_compare_and_swap(&r->end, 0, c->end))
		return 0;
	WRITE_ONCE(r->start, c->start);
	return c->found = true;
}

static long take_range(__u32 i, struct change *c)
{
	struct range *r;

	if (i >= CODE_RANGES)
		return 1;
	r = &c->code->at[i];
	if (r->start >= c->end || c->start >= r->end)
		return 0;
	c->found = true;
	if (c->start <= r->start && r->end <= c->end) {
		c->code->taken = 1;
		WRITE_ONCE(r->start, 0);
		WRITE_ONCE(r->end, 0);
	}
	return 0;
}

static __always_inline struct change change_of(struct code *code, __u64 start, __u64 end)
{
	struct change c = {.code = code, .start = start, .end = end};

	c.from = start >> GRAIN_BITS;
	c.to = (end + (1 << GRAIN_BITS) - 1) >> GRAIN_BITS;
	return c;
}

/* Marks that there is code. */
static __always_inline void code_appears(struct code *code, __u64 start, __u64 end)
{
	struct change c = change_of(code, start, end);

	if (start >= end)
		return;
	bpf_loop(CODE_BITS / 64, mark_word, &c, 0);
	bpf_loop(CODE_RANGES, put_range, &c, 0);
	if (!c.found)
		code->many = 1;
}

/* Gives the code another number if some of it is in a range that goes away, or may be.
 * Reports that. */
static __always_inline bool code_vanishes(struct code *code, __u64 start, __u64 end)
{
	struct change c = change_of(code, start, end);

	bpf_loop(CODE_BITS / 64, test_word, &c, 0);
	if (!c.found && code->whole)
		return false;
	c.found = code->many || !code->whole;
	bpf_loop(CODE_RANGES, take_range, &c, 0);
	if (c.found)
		renumber(code);
	return c.found;
}

/*
 * The code that an image begins with: the executable's, the loader's and the
 * vdso's. Of the last two only the beginning is known; a loader has less than
 * the 4 MiB that are taken for code here, and what is not code in them costs
 * nothing but a few words more in a signature.
 */
static __always_inline void code_of_image(struct mm_struct *mm)
{
	__u64 key = (__u64)mm, auxv[2];
	struct code *c;

	bpf_map_update_elem(&codes, &key, &no_code, BPF_ANY);
	c = code_of(key);
	if (!c)
		return;
	renumber(c);
	code_appears(c, mm->start_code, mm->end_code);
	for (int i = 0; i < 24; i++) {
		if (bpf_probe_read_kernel(auxv, sizeof(auxv), &mm->saved_auxv[2 * i]) || !auxv[0])
			break;
		if (auxv[0] == 7) /* AT_BASE */
			code_appears(c, auxv[1], auxv[1] ? auxv[1] + (4 << 20) : 0);
		if (auxv[0] == 33) /* AT_SYSINFO_EHDR */
			code_appears(c, auxv[1], auxv[1] + (8 << 10));
	}
	c->whole = 1;
}

/*
 * A forked child has what its parent has, and what another thread of the parent has
 * announced that it unmaps, but had not unmapped yet.
 */
static __always_inline void code_of_child(struct mm_struct *from, struct mm_struct *to)
{
	__u64 parent = (__u64)from, child = (__u64)to;
	struct code *c = code_of(parent);
	bool others = from->mm_users.counter > 1;

	if (!c)
		return;
	bpf_map_update_elem(&codes, &child, c, BPF_ANY);
	c = code_of(child);
	if (!c)
		return;
	if (c->taken && others)
		c->many = 1;
	if (!c->whole) /* a walk may have been half through the parent */
		c->walked = 0;
}
