/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#pragma once

/*
 * The signature of a stack: a hash of those words, with their places, that unwinding
 * can depend on. These are the return addresses, which point to code, and
 * frame addresses, which point to the stack and count as their distance from
 * sp; of registers the latter. All else may differ. Of what points there many
 * a word is a leftover, so one stack can have many signatures; but what has
 * one signature is one stack.
 *
 * Of a copy of parts, words that point to the last count from there, and those that
 * point to where the parts between it and the first are, as they are.
 */
#define HASH_WORDS 8 /* at once */

/* Whether a word is one of them. */
static __always_inline bool counts(const struct looking *l, __u32 i, __u64 w)
{
	const struct hashing *h = &l->at->hashing;

	if (w - h->sp < h->first || w - h->last < h->rest || w - h->between < h->width)
		return true;
	return i >= KEPT_REGS && w >= 1 << GRAIN_BITS && (!l->code || is_code(l->code, w));
}

static __always_inline __u64 mix(__u64 hash, __u64 with)
{
	hash = (hash ^ with) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 32;
}

static long hash_words(__u32 block, struct looking *l)
{
	struct hashing *h = &l->at->hashing;
	__u64 hash = h->hash;

	for (__u32 k = 0; k < HASH_WORDS; k++) {
		__u32 i = block * HASH_WORDS + k;
		__u64 w, d;

		asm volatile("" : "+r"(i)); /* as in copy_more */
		if (i >= h->words || i >= SAVED_REGS + MAX_STACK_BYTES / 8)
			break;
		w = l->at->snap.words[i];
		if (!counts(l, i, w))
			continue;
		d = w - h->sp;
		if (d >= h->first)
			d = w - h->last < h->rest ? (w - h->last) | 1ull << 62 : ~w;
		hash = mix(hash, d ^ ((__u64)i << 48));
	}
	h->hash = hash;
	return 0;
}

/* Goes through the parts of a copy but the first. */
static __always_inline void hash_parts(struct hashing *h, const struct snapshot *s, const struct copy *c)
{
	__u64 lowest = ~0ull, highest = 0;
	__u32 last = s->others & (PARTS - 1);

	h->first = s->parts[1].from;
	h->last = s->parts[last].start;
	h->rest = c->have - s->parts[last].from;
	for (__u32 i = 1; i < PARTS - 1; i++) {
		__u64 start = s->parts[i].start, end = start + s->parts[i + 1].from - s->parts[i].from;

		if (i >= last)
			break;
		if (start < lowest)
			lowest = start;
		if (end > highest)
			highest = end;
		h->hash = mix(mix(h->hash, start), s->parts[i].from);
	}
	if (lowest < highest) {
		h->between = lowest;
		h->width = highest - lowest;
	}
	h->hash = mix(h->hash, (__u64)h->first << 32 | h->rest);
}

static __always_inline __u64 signature(struct looking *l)
{
	const struct snapshot *s = &l->at->snap;
	const struct copy *c = &l->at->copy;
	struct hashing *h = &l->at->hashing;

	h->sp = c->sp;
	h->words = SAVED_REGS + c->have / 8;
	h->first = c->have;
	h->rest = h->last = h->between = h->width = 0;
	h->hash = mix((__u64)s->code << 32 | c->have, s->caller);
	if (s->others)
		hash_parts(h, s, c);
	bpf_loop((h->words + HASH_WORDS - 1) / HASH_WORDS, hash_words, l, 0);
	return h->hash ? h->hash : 1;
}

#include "pack.h"

/* Sends the snapshot if it was not sent yet. Its words are gone then. */
static __always_inline void send_snapshot(struct looking *l)
{
	struct snapshot *s = &l->at->snap;
	__u32 size;
	__u8 one = 1;

	if (bpf_map_lookup_elem(&signatures, &s->id))
		return;
	fill(&s->hdr, Snapshot);
	s->hdr.aux = l->at->copy.have;
	size = pack(l);
	asm volatile("" : "+r"(size)); /* as in copy_more */
	if (size > sizeof(*s))
		return;
	if (bpf_ringbuf_output(&events, s, size, BPF_RB_FORCE_WAKEUP)) {
		count_lost(Snapshot);
		return;
	}
	count_way(Sent);
	bpf_map_update_elem(&signatures, &s->id, &one, BPF_ANY);
}
