/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a declared probe reads at a hit, and whether its filter lets that pass.
 */
#pragma once

/* Cuts v to the size of its type and gives it its sign. */
static __always_inline __u64 of_size(__u64 v, const struct fetch *f)
{
	__u32 shift = (64 - 8 * f->size) & 63;

	if (f->flags & FetchSigned)
		return (__s64)(v << shift) >> shift;
	return v << shift >> shift;
}

/* The number, or address, that f says. */
static __always_inline bool fetch_number(bool user, struct caller *c, const struct fetch *f, __u64 *out)
{
	__u64 v = *out, to, last = f->steps;

	if (!(f->flags & FetchFromEntry) || !(f->flags & FetchLate)) {
		v = c->slot[f->base < SlotCount ? f->base : SlotZero];
		v += c->slot[f->index < SlotCount ? f->index : SlotZero] << (f->scale & 3);
	}
	for (int i = 0; i < MAX_STEPS; i++) {
		__u64 n = 8;

		if (i >= f->steps)
			break;
		if (i + 1 == f->steps)
			n = f->size;
		KEEP(n);
		if (n < 1 || n > 8)
			return false;
		to = 0;
		if (read_memory(user, &to, n, v + f->off[i]))
			return false;
		v = to;
	}
	v = of_size(v, f);
	KEEP(last);
	if (last > MAX_STEPS)
		return false;
	v += f->off[last];
	if (f->flags & FetchInCtx)
		v += c->slot[SlotCtx];
	*out = v;
	return true;
}

/* A place in the room, NULL beyond most. The pointer is made where the place was
 * compared: older verifiers forget the outcome for what goes by way of the stack. */
static __always_inline char *in_room_at(struct caller *c, __u64 pos, __u64 most)
{
	char *at;

	KEEP(pos);
	if (pos > most)
		return NULL;
	at = c->room + pos;
	KEEP(at);
	return at;
}

struct scan {
	char *to;
	__u64 from;
	__u32 known;
	bool ended; /* the end was found */
};

static __always_inline long scan_one(bool user, struct scan *s)
{
	long n = read_text(user, s->to, SCAN_LEN, s->from + s->known);

	if (n < 0)
		return 1;
	if (n > 0) /* of an empty text, older kernels do not count the NUL */
		s->known += n - 1;
	s->ended = n < SCAN_LEN;
	return s->ended;
}

static long scan_user(__u32 i, struct scan *s) { return scan_one(true, s); }
static long scan_kernel(__u32 i, struct scan *s) { return scan_one(false, s); }

/* How long a text is whose first bytes did not show its end; marked where nothing
 * more did, as there is no memory or no end of it. */
static __always_inline __u32 scan_text(bool user, struct caller *c, __u64 from, __u32 known)
{
	struct scan s = {.to = in_room_at(c, c->pos, caller_room + record_room - SCAN_LEN), .from = from, .known = known};

	if (!s.to)
		return known | AT_LEAST;
	if (user)
		bpf_loop(MAX_SCANS, scan_user, &s, 0);
	else
		bpf_loop(MAX_SCANS_KERNEL, scan_kernel, &s, 0);
	return s.ended ? s.known : s.known | AT_LEAST;
}

/* Keeps what is at v, and says so in num: how much is kept, and above that how
 * much there is. */
static __always_inline bool fetch_text(bool user, struct caller *c, const struct fetch *f, struct called *r, __u64 v, __u64 *num)
{
	__u64 limit = f->limit, there;
	char *to = in_room_at(c, c->pos, caller_room + record_room - text_room);
	long n;

	if (!to || limit >= text_room)
		return false;
	if (f->flags & FetchComm) {
		if (bpf_get_current_comm(to, COMM_LEN))
			return false;
		n = bpf_probe_read_kernel_str(c->word, COMM_LEN, to);
		there = n > 0 ? n - 1 : 0;
		*num = there << 32 | there;
		c->pos += there;
		return n > 0;
	}
	if (f->flags & FetchStr) {
		limit++;
		KEEP(limit);
		if (limit > text_room)
			return false;
		n = read_text(user, to, limit, v);
		limit--;
		if (n < 0 || n > limit + 1)
			return false;
		if (!n) /* of an empty text, older kernels do not count the NUL */
			n = 1;
		there = n - 1;
		c->pos += there;
		if (there == limit)
			there = scan_text(user, c, v, limit);
		*num = there << 32 | (n - 1);
		return true;
	}
	there = limit;
	if (f->length < MAX_FETCHES)
		there = r->num[f->length];
	if (there >> 31)
		return false; /* negative, or no length */
	if (limit > there)
		limit = there;
	KEEP(limit);
	if (limit >= text_room || (limit && read_memory(user, to, limit, v)))
		return false;
	c->pos += limit;
	*num = there << 32 | limit;
	return true;
}

/* What the loops below work on. They are loops of the kernel's (bpf_loop), whose
 * body is verified once: the verifier would have to follow each round of others. */
struct work {
	struct caller *c;
	const struct probe *p;
	struct called *r;
	struct pt_regs *ctx;
	__u64 sp;
	__u64 stack, caller; /* ids, once they are known */
	__u32 id;
	bool inside; /* what stack and caller are of */
	bool late;
	bool found;
};

/* What a call adds to the number at an address, num[] of another fetch: at the entry what
 * is there, at the return the difference. A function of its own: within fetch_one, the
 * compiler keeps sizes on the stack where older verifiers do not know them any more. */
static __noinline long fetch_delta(bool user, __u64 i, struct work *w)
{
	struct called *r = w->r;
	const struct fetch *f;
	__u64 n, at, now = 0;

	KEEP(i);
	if (i >= MAX_FETCHES)
		return 1;
	f = &w->p->fetch[i];
	n = f->size;
	at = f->length;
	KEEP(at);
	if (at >= MAX_FETCHES || (r->faults & (1u << i | 1u << at)))
		goto fault;
	at = r->num[at];
	KEEP(n);
	if (n < 1 || n > 8 || read_memory(user, &now, n, at))
		goto fault;
	r->num[i] = w->late ? of_size(now - r->num[i], f) : now;
	return 0;
fault:
	r->faults |= 1u << i;
	r->num[i] = 0;
	return 0;
}

static __always_inline long fetch_one(bool user, __u64 i, struct work *w)
{
	struct called *r = w->r;
	struct caller *c = w->c;
	const struct fetch *f;
	__u64 v;

	KEEP(i);
	if (i >= MAX_FETCHES)
		return 1;
	f = &w->p->fetch[i];
	if (f->flags & FetchDelta)
		return fetch_delta(user, i, w);
	v = r->num[i];
	if (!w->late && (f->flags & FetchLate)) {
		if (f->flags & FetchFromEntry)
			r->num[i] = c->slot[f->base < SlotCount ? f->base : SlotZero];
		return 0;
	}
	if (w->late && !(f->flags & FetchLate))
		return 0;
	if (f->length < MAX_FETCHES && (r->faults >> (f->length & 31) & 1)) {
		r->faults |= 1u << i;
		return 0;
	}
	if (!fetch_number(user, c, f, &v) || ((f->flags & FetchText) && !fetch_text(user, c, f, r, v, &v))) {
		r->faults |= 1u << i;
		v = 0;
	}
	r->num[i] = v;
	return 0;
}

static long fetch_user(__u32 i, struct work *w) { return fetch_one(true, i, w); }
static long fetch_kernel(__u32 i, struct work *w) { return fetch_one(false, i, w); }

/* Reads what the probe wants now: at the entry, or at the return if late. */
static __always_inline void fetch_all(bool user, struct work *w, bool late)
{
	w->late = late;
	if (user)
		bpf_loop(w->p->fetches, fetch_user, w, 0);
	else
		bpf_loop(w->p->fetches, fetch_kernel, w, 0);
}

static __always_inline bool compare(const struct term *t, __u64 v)
{
	__u64 to = t->value;

	v &= t->mask;
	if (t->is_signed) { /* moved so that the order of the unsigned is theirs */
		v ^= 1ull << 63;
		to ^= 1ull << 63;
	}
	switch (t->op) {
	case TermEq:
		return v == to;
	case TermNe:
		return v != to;
	case TermLt:
		return v < to;
	case TermLe:
		return v <= to;
	case TermGt:
		return v > to;
	case TermGe:
		return v >= to;
	}
	return false;
}

/* Whether the text at the fetch is word; negative if it cannot be read. The bytes are
 * read anew: what the record has of them may be cut. */
static __always_inline int same_text(bool user, struct caller *c, const struct probe *p, const struct term *t, __u64 from)
{
	const struct fetch *f = &p->fetch[t->fetch & (MAX_FETCHES - 1)];
	const __u64 *want = (const __u64 *)p->word[t->word & (MAX_WORDS - 1)];
	__u64 *have = (__u64 *)c->word;

	for (int i = 0; i < WORD_LEN / 8; i++)
		have[i] = 0;
	if (f->flags & FetchComm)
		bpf_get_current_comm(c->word, COMM_LEN);
	else if (read_text(user, c->word, WORD_LEN, from) < 0)
		return -1;
	for (int i = 0; i < WORD_LEN / 8; i++)
		if (have[i] != want[i])
			return 0;
	return 1;
}

static __always_inline long term_one(bool user, __u64 i, struct work *w)
{
	const struct called *r = w->r;
	struct caller *c = w->c;
	const struct term *t;
	__u32 at, bits = c->bits;
	bool ok = false;

	KEEP(i);
	if (i >= MAX_TERMS)
		return 1;
	t = &w->p->term[i];
	at = t->fetch & (MAX_FETCHES - 1);
	switch (t->op) {
	case TermAnd:
		c->bits = bits >> 1 & (~1u | (bits & 1));
		return 0;
	case TermOr:
		c->bits = bits >> 1 | (bits & 1);
		return 0;
	case TermNot:
		c->bits = bits ^ 1;
		return 0;
	}
	if (!(r->faults >> at & 1)) {
		if (t->op == TermTextEq || t->op == TermTextNe)
			ok = same_text(user, c, w->p, t, r->num[at]) == (t->op == TermTextEq ? 1 : 0);
		else
			ok = compare(t, r->num[at]);
	}
	c->bits = bits << 1 | ok;
	return 0;
}

static long term_user(__u32 i, struct work *w) { return term_one(true, i, w); }
static long term_kernel(__u32 i, struct work *w) { return term_one(false, i, w); }

/* Whether the call passes the filter: terms in postfix order, their truth on a
 * stack of bits. A value that cannot be read makes its comparison false. */
static __always_inline bool passes(bool user, struct work *w)
{
	if (!w->p->terms)
		return true;
	w->c->bits = 1;
	if (user)
		bpf_loop(w->p->terms, term_user, w, 0);
	else
		bpf_loop(w->p->terms, term_kernel, w, 0);
	return w->c->bits & 1;
}
