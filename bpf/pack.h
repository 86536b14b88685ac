/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Snapshots are sent without what unwinding cannot depend on, which is most of
 * a stack: so the ring has room for more of them, and what a program has on its stack
 * beside addresses stays there. For 64 words at a time there are two masks, of the
 * words that are there and of those that are not 0, and then the words that are there.
 *
 * It is done in place: what is written never overtakes what is read.
 */
#pragma once

static __always_inline void put_word(struct snapshot *s, __u32 at, __u64 word)
{
	asm volatile("" : "+r"(at)); /* as in copy_more */
	if (at < PACK_SLACK + SAVED_REGS + MAX_STACK_BYTES / 8)
		*(__u64 *)((void *)s + offsetof(struct snapshot, packed) + at * 8ull) = word;
}

static long pack_words(__u32 block, struct looking *l)
{
	struct packing *p = &l->at->packing;
	struct snapshot *s = &l->at->snap;
	__u64 there = 0, not_zero = 0;
	__u32 out = p->out;

	if (block % (64 / HASH_WORDS) == 0) {
		p->masks = out;
		out += 2;
	} else {
		there = p->there;
		not_zero = p->not_zero;
	}
	for (__u32 k = 0; k < HASH_WORDS; k++) {
		__u32 i = block * HASH_WORDS + k;
		__u64 w;

		asm volatile("" : "+r"(i)); /* as in copy_more */
		if (i >= l->at->hashing.words || i >= SAVED_REGS + MAX_STACK_BYTES / 8)
			break;
		w = s->words[i];
		if (!w)
			continue;
		not_zero |= 1ull << (i & 63);
		if (i >= SAVED_REGS && !counts(l, i, w))
			continue;
		there |= 1ull << (i & 63);
		put_word(s, out++, w);
	}
	put_word(s, p->masks, there);
	put_word(s, p->masks + 1, not_zero);
	p->there = there;
	p->not_zero = not_zero;
	p->out = out;
	return 0;
}

/* Packs a snapshot, and returns the bytes of the record that it is then. */
static __always_inline __u32 pack(struct looking *l)
{
	l->at->packing.out = 0;
	bpf_loop((l->at->hashing.words + HASH_WORDS - 1) / HASH_WORDS, pack_words, l, 0);
	return offsetof(struct snapshot, packed) + l->at->packing.out * 8;
}
