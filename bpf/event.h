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
#define MAX_STACK_BYTES (248 << 10) /* places of words have 15 bits (learned.h) */

/* The registers that functions leave as they find them, the stack pointer apart;
 * then, on arm64, the one with the return address. */
#if defined(__TARGET_ARCH_x86)
#define KEPT_REGS 6 /* rbx, rbp, r12 to r15 */
#define SAVED_REGS 6
#else
#define KEPT_REGS 11 /* x19 to x29 */
#define SAVED_REGS 12 /* and x30 */
#endif

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
	TcpOpened,
	TcpEnded,
	Called,
	Snapshot,
	TcpStack,
	Joined,
	Count,
};

/* How an allocator function's arguments and result are read: the second byte of
 * what functions[] says of a place; the first is the function, as capture names it. */
enum shape {
	OfSize = 1,	   /* size in argument 0 */
	OfCalloc,	   /* count, size */
	OfAlign,	   /* alignment, size */
	OfPosix,	   /* out pointer, alignment, size; returns an errno */
	OfRealloc,	   /* old block, size */
	OfReallocarray, /* old block, count, size */
	OfFree,	   /* block in argument 0; nothing of interest on return */
};

/* Flag of a free that now and then ends in a jump to another
 * probed free: same block, same stack pointer. */
#define FORWARDS (1 << 16)
/* Flag of a place that is no free but a call of one, for a block that was freed
 * before. */
#define RECYCLES (1 << 17)

struct hdr {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u32 pid;  /* thread group */
	__u32 tid;
	__u8 kind;
	__u8 fn;    /* heap records: the function */
	__u16 cpu;
	__u32 aux;  /* meaning by kind */
};

struct stack { /* aux: number of frames */
	struct hdr hdr;
	__u64 hash;
	__u64 ip[MAX_FRAMES + 1]; /* return addresses, innermost caller first */
};

/* The thread was inside a function: at the instruction, no address of user space has
 * the bit. */
#define INSIDE (1ull << 63)

/* In depth: the stack is one that is for signals, and its copy goes on where the signal came. */
#define SIGNALED (1u << 30)
/* Or it is one of many pieces. */
#define SPLIT (1u << 29)

/* A copy has memory from so many places, at most. */
#define PARTS 16

struct part {
	__u64 start; /* its address */
	__u32 from;  /* bytes of the copy that are before it; of those but the first, 0: there is none */
	__u32 pad;
};

/* Words that a packed snapshot may be longer than it was: two for 64. */
#define PACK_SLACK (2 * ((SAVED_REGS + MAX_STACK_BYTES / 8) / 64 + 2))

/* The memory of a stack whose signature was not seen before. aux: bytes of
 * memory. The record is packed (pack.h), and only as long as that. */
struct snapshot {
	struct hdr hdr;
	__u64 id;
	__u64 sp;
	__u64 caller; /* the return address of the function that was entered, or where it was, and INSIDE */
	__u32 code;   /* what was mapped as code, as a number */
	__u32 depth;  /* bytes from sp to the end of the stack; 0: not known; SIGNALED: of the signal's */
	__u32 others; /* parts but the first */
	__u32 pad;
	struct part parts[PARTS]; /* the first is from sp on */
	__u64 packed[PACK_SLACK]; /* and it goes on in words, that far behind what is read of them */
	__u64 words[SAVED_REGS + MAX_STACK_BYTES / 8]; /* registers, then memory from sp on */
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
	__u64 asked; /* 0: where is it? */
	__u64 now;
};

struct fork { /* aux: 1 shares the address space, 2 is a thread */
	struct hdr hdr;
	__u32 child_pid;
	__u32 child_tid;
	char comm[COMM_LEN];
};

/* A new image, and (Joined) one of a process that is followed from now on. */
struct exec { /* aux: effective uid */
	struct hdr hdr;
	char comm[COMM_LEN];
	__u64 start_code; /* the executable's first code segment, as it is mapped */
	__u64 end_code;
	__u64 start_stack;
	__u64 ino; /* of the executable */
	__u32 dev;
	__u32 pad;
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

/*
 * TCP. The id of a connection is its socket's cookie, and from bit 48 on how
 * often the socket was connected before. Addresses are IPv6's or, with family
 * 4, the first four bytes; ports are in host order. The header's pid, tid and
 * these are of the task that did it, and 0 where no task is to be named.
 */
struct who {
	char comm[COMM_LEN];
	__u32 uid; /* effective */
};

struct tcp_endpoints { /* aux: uid of the socket */
	struct hdr hdr;
	struct who who;
	__u32 netns; /* inode number */
	__u64 conn;
	__u8 laddr[16];
	__u8 raddr[16];
	__u16 lport; /* 0: not yet known */
	__u16 rport;
	__u8 family; /* 4 or 6 */
	__u8 pad[3];
};

/* What a task did to a connection, as format names it. */
enum tcp_act {
	ByNobody, /* a packet or a timer did it */
	BySome,	  /* by a system call that has no number here */
	ByClose,
	ByCloseRange,
	ByShutdown,
	ByExit,
	ByKill, /* the exit of a process that a signal ended */
	ByExec,
	ByDup,
	ByConnect,
};

struct tcp_state { /* aux: old state, new state, shutdown, tcp_act; 8 bits each */
	struct hdr hdr;
	struct who who;
	__u32 err;
	__u64 conn;
	__u64 tx;
	__u64 rx;
	__u32 retransmits;
	__u32 srtt;    /* us */
	__u32 min_rtt; /* us */
	__u32 since_call; /* ns from the system call's entry; 0: not known */
};

/*
 * What is told at one moment is one record, though it is two events: a record
 * costs more than its bytes.
 */
struct tcp_opened { /* endpoints and state */
	struct tcp_state state;
	__u32 netns;
	__u32 uid; /* of the socket */
	__u8 laddr[16];
	__u8 raddr[16];
	__u16 lport;
	__u16 rport;
	__u8 family;
	__u8 birth; /* the endpoints are the task's doing, too */
	__u8 pad[2];
};

struct tcp_ended { /* the state CLOSE, and destroy, with the same counters */
	struct tcp_state state;
	__u64 destroyed; /* when */
	__u64 idle;	 /* as in tcp_destroy */
	__u32 disconnected;
	__u32 pad;
};

struct tcp_connect { /* aux: errno */
	struct hdr hdr;
	struct who who;
	__s32 fd;
	__u64 conn; /* 0: the socket never became a connection */
	__u64 duration; /* ns */
	__u8 raddr[16];
	__u32 netns;
	__u16 rport;
	__u8 family;
	__u8 pad;
};

struct tcp_accept { /* aux: file descriptor */
	struct hdr hdr;
	struct who who;
	__u32 pad;
	__u64 conn;
};

struct tcp_retransmit { /* aux: state */
	struct hdr hdr;
	__u64 conn;
};

struct tcp_reset { /* aux: 1 received, state; 8 bits each; reason */
	struct hdr hdr;
	__u64 conn;
};

/* At what moment of a connection a stack was taken. */
enum tcp_moment {
	AtState,
	AtRetransmit,
	AtResetSent,
	AtResetReceived,
};

#define KERNEL_FRAMES 64

struct tcp_stack { /* aux: tcp_moment, old state, new state; 8 bits each */
	struct hdr hdr;
	__u64 conn;
	__s64 bytes; /* of addresses; negative: an errno */
	__u64 ip[KERNEL_FRAMES]; /* innermost first; those of tcap's own program lead */
};

struct tcp_destroy { /* aux: retransmits */
	struct hdr hdr;
	__u64 conn;
	__u64 tx;
	__u64 rx;
	__u32 min_rtt; /* us */
	__u32 disconnected; /* 1 no, 2 yes, 0 not known */
	__u64 idle; /* ns without payload before the first end of either side */
};

struct tcp_snapshot { /* aux: 1 at the end, state; 8 bits each */
	struct hdr hdr;
	struct who who;
	__s32 fd;
	__u64 conn;
	__u64 tx;
	__u64 rx;
	__u32 retransmits;
	__u32 srtt;
	__u32 min_rtt;
	__u32 pad;
};

/* How a call of a declared function ended; as in format. */
enum outcome {
	CallReturned,
	CallEntered,
	CallLeft,
	CallUnfinished,
	CallUnentered,
};

#define MAX_FETCHES 32

/* A call, aux: its probe, fn: its outcome. As many numbers as the probe has
 * fetches, then the texts that were kept, one after another. */
struct called {
	struct hdr hdr;
	__u64 entry; /* ns */
	__u64 duration; /* ns */
	__u64 stack;
	__u32 faults; /* a bit for each fetch */
	__u32 depth;
	__u32 uid;   /* effective */
	__u32 image; /* differs from that of the pid's program before, and after */
	char comm[COMM_LEN];
	__u64 num[MAX_FETCHES]; /* of a text: how much was kept, and from bit 32 how much there was */
};

/* Every record; named as the ring's value, so that BTF tells user space of all. */
union record {
	enum kind kind_;
	enum shape shape_;
	enum tcp_act tcp_act_;
	struct hdr hdr;
	struct stack stack;
	struct snapshot snapshot;
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
	struct tcp_endpoints tcp_endpoints;
	struct tcp_state tcp_state;
	struct tcp_connect tcp_connect;
	struct tcp_accept tcp_accept;
	struct tcp_retransmit tcp_retransmit;
	struct tcp_reset tcp_reset;
	struct tcp_destroy tcp_destroy;
	struct tcp_stack tcp_stack;
	enum tcp_moment tcp_moment_;
	struct tcp_snapshot tcp_snapshot;
	struct tcp_opened tcp_opened;
	struct tcp_ended tcp_ended;
	struct called called;
	enum outcome outcome_;
};
