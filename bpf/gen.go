package bpf

//go:generate go tool bpf2go -go-package bpf -target amd64,arm64 -no-global-types -type kind -type shape -type tcp_act -type hdr -type stack -type alloc -type realloc -type free -type map -type unmap -type remap -type brk -type fork -type exec -type exit -type comm -type mapping -type who -type tcp_endpoints -type tcp_state -type tcp_connect -type tcp_accept -type tcp_retransmit -type tcp_reset -type tcp_destroy -type tcp_snapshot Raw tcap.bpf.c -- -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu -O2 -g -Wall -Werror -fdebug-prefix-map=..=. -ffile-prefix-map=..=.
