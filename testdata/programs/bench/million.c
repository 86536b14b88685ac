// build: -O2
// Holds TCP connections open, both ends, in a network namespace of its own:
// million.c PAIRS EACH. Of each pair of processes, one listens on an address of its
// own in 127.0.0.0/8 and accepts EACH connections, the other connects them. It
// prints how many are open and how long that took, and keeps them until its
// standard input ends.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7000 };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void set(const char *name, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		die(path);
	close(fd);
}

// A world with a loopback and sockets that promise little memory.
static void isolate(void)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd;

	if (unshare(CLONE_NEWNET))
		die("unshare");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r))
		die("lo");
	close(fd);
	set("core/somaxconn", "4096");
	set("ipv4/tcp_max_syn_backlog", "4096");
	set("ipv4/ip_local_port_range", "10000 65535");
	set("ipv4/tcp_rmem", "4096 4096 16384");
	set("ipv4/tcp_wmem", "4096 4096 16384");
}

static struct sockaddr_in address(int pair)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(0x7f000101 + (pair << 8))};
}

// told says a byte to the parent and waits for its end.
static void told(int fd)
{
	if (write(fd, "x", 1) != 1)
		exit(1);
	for (;;)
		pause();
}

static void serve(int listener, int each, int out)
{
	for (int i = 0; i < each; i++)
		if (accept(listener, NULL, NULL) < 0)
			die("accept");
	told(out);
}

static void dial(int pair, int each, int out)
{
	struct sockaddr_in to = address(pair);

	for (int i = 0; i < each; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, (void *)&to, sizeof(to)))
			die("connect");
	}
	told(out);
}

// child runs the one end of a pair in a process.
static void child(int pair, int each, int listener, int out)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (listener >= 0)
		serve(listener, each, out);
	dial(pair, each, out);
}

int main(int argc, char **argv)
{
	int pairs = argc > 1 ? atoi(argv[1]) : 1, each = argc > 2 ? atoi(argv[2]) : 1000, done[2];
	struct rlimit files;
	struct timespec a, b;
	char c;

	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	isolate();
	if (pipe(done))
		die("pipe");
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < pairs; i++) {
		struct sockaddr_in at = address(i);
		int listener = socket(AF_INET, SOCK_STREAM, 0);

		if (listener < 0 || bind(listener, (void *)&at, sizeof(at)) || listen(listener, 4096))
			die("listen");
		child(i, each, listener, done[1]);
		close(listener);
		child(i, each, -1, done[1]);
	}
	close(done[1]);
	for (int i = 0; i < 2 * pairs; i++)
		if (read(done[0], &c, 1) != 1)
			exit(1);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("open %d\nseconds %.1f\n", pairs * each, (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9);
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM); // of its own process group, which the bench made
	while (wait(NULL) > 0)
		;
	return 0;
}
