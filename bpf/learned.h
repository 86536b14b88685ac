/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What user space learned of stacks by unwinding them.
 *
 * Unwinding is a function of the words that it reads: return addresses, and
 * saved frame addresses where a frame is found by one. Where they are and what
 * they are is a stack's steps. A stack on which all steps are right, place by
 * place and word by word, unwinds to the same frames, whatever else is in
 * memory, since the unwinder would read the very same words one after the other.
 * So this is a proof and not a guess; no hash is in it.
 *
 * Steps of all stacks are a tree: where a word is another than the step wants,
 * an edge may lead to steps that go on with that word.
 *
 * When the tree is full, user space takes all edges away and begins a new one,
 * whose rows lie where the old ones were. A row is named by its place and
 * its tree's generation, so no edge of an old tree leads into a new one, and a row is marked as
 * being of none before it becomes another: who finds the right generation in it
 * after having read the rest has read what was meant.
 */
#pragma once

#define STEPS 16	/* in a row */
#define PLACE 0xffff	/* part of a row's name, the rest is the generation */
#define ROWS 96		/* that are looked at for a stack */
#define RELATIVE 0x8000 /* flag of a place: the word counts from where a part begins */
#define FROM (RELATIVE - PARTS) /* place of what a part has for `from`: from there on, where words are is known */

struct step_row {
	__u64 id;	 /* of the stack, if these are its last */
	__u32 next;	 /* the row that goes on */
	__u16 count;
	__u16 words;	 /* of the stack that these, and those that go on, look at */
	__u16 at[STEPS]; /* index in words of a snapshot */
	__u64 want[STEPS];
	__u32 generation; /* 0: none */
	__u32 pad;
	__u64 part; /* that the word of each step counts from, if it does: 4 bits of it each */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, struct step_row);
} steps SEC(".maps");

/* Where to begin, by the caller and how deep the stack is; and where to go on
 * after a word that was not wanted. */
struct edge {
	__u32 from; /* a row; or what is mapped as code, by its number */
	__u32 at;   /* step in the row, EDGE set; or bytes from sp to the stack's end */
	__u64 word; /* or the caller */
};

#define EDGE (1u << 31)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct edge);
	__type(value, __u32);
} edges SEC(".maps");

static __always_inline __u32 follow(__u32 from, __u32 at, __u64 word)
{
	struct edge e = {.from = from, .at = at, .word = word};
	__u32 *to = bpf_map_lookup_elem(&edges, &e);

	return to ? *to : 0;
}

/* The first step of a row that is not right; the row's count if all are. */
static __always_inline __u32 wrong_step(const struct step_row *p, const struct snapshot *s, __u64 *word)
{
	for (__u32 i = 0; i < STEPS; i++) {
		__u32 at;

		if (i >= p->count)
			return i;
		at = p->at[i] & (RELATIVE - 1);
		if (at >= FROM)
			*word = s->parts[at & (PARTS - 1)].from;
		else if (at < SAVED_REGS + MAX_STACK_BYTES / 8)
			*word = s->words[at];
		else
			return i;
		if (p->at[i] & RELATIVE)
			*word -= s->parts[p->part >> (4 * i) & (PARTS - 1)].start;
		if (*word != p->want[i])
			return i;
	}
	return STEPS;
}

struct recognition {
	struct snapshot *s;
	struct copy *c;
	__u64 id;
	__u32 row;
};

/* The generation of a row, read after all that was read of it before. */
static __always_inline __u32 generation_now(struct step_row *p)
{
#if defined(__TARGET_ARCH_x86)
	asm volatile("" ::: "memory"); /* the CPU keeps loads in order */
	return *(volatile __u32 *)&p->generation;
#else
	return __sync_fetch_and_add(&p->generation, 0);
#endif
}

static long next_row(__u32 i, struct recognition *r)
{
	__u32 at, place = r->row & PLACE, count, next;
	struct step_row *p = bpf_map_lookup_elem(&steps, &place);
	__u64 word = 0, id;

	if (!p || !copy_more(r->s, r->c, p->words * 8))
		return 1;
	at = wrong_step(p, r->s, &word);
	count = p->count;
	next = p->next;
	id = p->id;
	if (generation_now(p) != r->row >> 16)
		return 1;
	if (at < count) {
		r->row = follow(r->row, EDGE | at, word);
		return !r->row;
	}
	if (!next) {
		r->id = id;
		return 1;
	}
	r->row = next;
	return 0;
}

/* The id of a stack that was unwound before; 0 if it was not. */
static __noinline __u64 learned_stack(struct scratch *at)
{
	struct snapshot *s = &at->snap;
	struct recognition r = {.s = s, .c = &at->copy, .row = follow(s->code, s->depth, s->caller)};

	if (r.row)
		bpf_loop(ROWS, next_row, &r, 0);
	return r.id;
}
