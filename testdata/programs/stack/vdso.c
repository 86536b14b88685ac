/*
 * A signal handler allocates while the program asks for the time: 3000 bytes
 * where it interrupted the vdso, 2000 elsewhere. It says how often each was.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

#define WANTED 100
#define MOST 20000

static uintptr_t vdso, vdso_size;
static volatile int inside, elsewhere;

/* The next signal comes some time after this one is done with, however slow it was. */
static void arm(void)
{
	struct itimerval soon = {.it_value.tv_usec = 500};

	setitimer(ITIMER_REAL, &soon, NULL);
}

static void on_alarm(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *interrupted = context;
#ifdef __x86_64__
	uintptr_t pc = interrupted->uc_mcontext.gregs[REG_RIP];
#else
	uintptr_t pc = interrupted->uc_mcontext.pc;
#endif

	if (pc - vdso < vdso_size) {
		free(malloc(3000));
		inside++;
	} else {
		free(malloc(2000));
		elsewhere++;
	}
	arm();
}

int main(void)
{
	struct sigaction act = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct timespec now;

	vdso = getauxval(AT_SYSINFO_EHDR);
	if (vdso) {
		const ElfW(Ehdr) *header = (void *)vdso;
		const ElfW(Phdr) *part = (void *)(vdso + header->e_phoff);

		for (int i = 0; i < header->e_phnum; i++)
			if (part[i].p_type == PT_LOAD)
				vdso_size = part[i].p_offset + part[i].p_filesz;
	}
	sigaction(SIGALRM, &act, NULL);
	arm();
	while (inside < WANTED && inside + elsewhere < MOST)
		clock_gettime(CLOCK_MONOTONIC, &now);
	signal(SIGALRM, SIG_IGN);
	printf("inside=%d\nelsewhere=%d\n", inside, elsewhere);
	return 0;
}
