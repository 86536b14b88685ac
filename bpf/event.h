/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The records that the programs hand to user space through the ring. Their Go
 * twins are generated from this file's BTF, so there is no second copy to keep
 * in step. Sizes matter: a record is copied once per event.
 */
#pragma once

#define COMM_LEN 16
#define PATH_LEN 256
#define NAME_LEN 48
#define MAX_FRAMES 127

/* What a record is; also the index of its loss counter. */
enum kind {
	Stack = 1,
	Alloc,
	Realloc,
	Free,
	Map,
	Unmap,
	Remap,
	Brk,
	Fork,
	Exec,
	Exit,
	Comm,
	Mapping,
	TcpEndpoints,
	TcpState,
	TcpConnect,
	TcpAccept,
	TcpRetransmit,
	TcpReset,
	TcpDestroy,
	TcpSnapshot,
	Count,
};

/* How an allocator function's arguments and result are read: the high byte of
 * a heap probe's cookie; the low byte is the function, as capture names it. */
enum shape {
	OfSize = 1,	   /* size in argument 0 */
	OfCalloc,	   /* count, size */
	OfAlign,	   /* alignment, size */
	OfPosix,	   /* out pointer, alignment, size; returns an errno */
	OfRealloc,	   /* old block, size */
	OfReallocarray, /* old block, count, size */
	OfFree,	   /* block in argument 0; nothing of interest on return */
};

struct hdr {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u32 pid;  /* thread group */
	__u32 tid;
	__u8 kind;
	__u8 fn;    /* heap records: low byte of the cookie */
	__u16 cpu;
	__u32 aux;  /* meaning by kind */
};

struct stack { /* aux: number of frames */
	struct hdr hdr;
	__u64 hash;
	__u64 ip[MAX_FRAMES + 1]; /* return addresses, innermost caller first; a first one of 0 is none */
};

struct alloc {
	struct hdr hdr;
	__u64 addr;
	__u64 size;
	__u64 stack;
};

struct realloc {
	struct hdr hdr;
	__u64 old;
	__u64 addr;
	__u64 size;
	__u64 stack;
	__u64 entry; /* when the call began, ns */
};

struct free { /* also a realloc that freed without returning a block */
	struct hdr hdr;
	__u64 addr;
};

/* mmap, munmap, mremap and brk that succeeded. aux: 1 inside an allocator call. */
struct map {
	struct hdr hdr;
	__u64 addr;
	__u64 length;
	__u32 prot;
	__u32 flags;
	__s32 fd;
	__u32 pad;
};

struct unmap {
	struct hdr hdr;
	__u64 addr;
	__u64 length;
};

struct remap {
	struct hdr hdr;
	__u64 old;
	__u64 old_length;
	__u64 addr;
	__u64 length;
};

struct brk {
	struct hdr hdr;
	__u64 old;
	__u64 new;
};

struct fork { /* aux: 1 shares the address space, 2 is a thread */
	struct hdr hdr;
	__u32 child_pid;
	__u32 child_tid;
	char comm[COMM_LEN];
};

struct exec { /* aux: effective uid */
	struct hdr hdr;
	char comm[COMM_LEN];
	char path[PATH_LEN];
};

struct exit { /* aux: 1 the process is gone, not just the thread */
	struct hdr hdr;
	__u32 code;
	__u32 pad;
};

struct comm {
	struct hdr hdr;
	char comm[COMM_LEN];
};

struct mapping {
	struct hdr hdr;
	__u64 start;
	__u64 length;
	__u64 offset;
	__u64 ino;
	__u32 dev; /* kernel's dev_t: major << 20 | minor */
	char name[NAME_LEN]; /* last component of the path */
	__u32 pad;
};

/* Every record; named as the ring's value, so that BTF tells user space of all. */
union record {
	enum kind kind_;
	enum shape shape_;
	struct hdr hdr;
	struct stack stack;
	struct alloc alloc;
	struct realloc realloc;
	struct free free;
	struct map map;
	struct unmap unmap;
	struct remap remap;
	struct brk brk;
	struct fork fork;
	struct exec exec;
	struct exit exit;
	struct comm comm;
	struct mapping mapping;
};
