//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * tcap's programs. Each header is one family of probes; all of them write
 * records of event.h to one ring and count what finds no room in it.
 */
#include <stddef.h>
#include "kernel.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "Dual BSD/GPL";

#include "event.h"
#include "ring.h"
#include "thread.h"
#include "code.h"
#include "snapshot.h"
#include "heap.h"
#include "declared.h"
#include "declared_fetch.h"
#include "declared_stack.h"
#include "declared_call.h"
#include "mem.h"
#include "proc.h"
#include "tcp_socket.h"
#include "tcp_close.h"
#include "tcp.h"
#include "tcp_segment.h"
#include "tcp_stack.h"
#include "tcp_call.h"
#include "tcp_iter.h"
