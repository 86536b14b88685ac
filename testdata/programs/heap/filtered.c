// A program under a system call filter that kills it for all but a handful of
// calls, none of them a tracer's. With an argument, it makes another one.
#include "truth.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(int argc, char **argv)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), ALLOW(SYS_brk), ALLOW(SYS_mmap),
		ALLOW(SYS_munmap), ALLOW(SYS_mremap),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = {sizeof(filter) / sizeof(*filter), filter};
	void *p;

	free(malloc(1)); // glibc's first one asks for random bytes
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		say("error=seccomp\n");
	wait_go("ready");
	if (argc > 1)
		syscall(SYS_getppid);
	mark();
	p = t_malloc(100);
	p = t_realloc(p, 300 << 10);
	t_free(p);
	t_calloc(7, 7);
	mark();
	say("end=1\n");
	_exit(0);
}
