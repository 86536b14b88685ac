// An actor in a play about TCP: it reads one command a line, does it, and
// answers with one line, "ok [NUMBER]" or "err ERRNO". The test that directs
// several actors thereby knows who did what, and in which order.
//
//	actor NAME [netns]     NAME becomes its comm; netns: in a new network namespace
//
// Sockets are named by registers 0 to 63. Descriptor 3, if there is one, is a
// UNIX socket to another actor.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int reg[64];
static char data[1 << 16];

static void answer(long n)
{
	if (n < 0)
		printf("err %d\n", errno);
	else
		printf("ok %ld\n", n);
	fflush(stdout);
}

static socklen_t address(struct sockaddr_storage *s, const char *addr, int port)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;
	socklen_t len;

	if (getaddrinfo(addr, NULL, &hints, &found)) {
		fprintf(stderr, "actor: no address: %s\n", addr);
		exit(2);
	}
	len = found->ai_addrlen;
	memcpy(s, found->ai_addr, len);
	freeaddrinfo(found);
	((struct sockaddr_in *)s)->sin_port = htons(port); // where sin6_port is, too
	return len;
}

static long port_of(int fd)
{
	struct sockaddr_storage s;
	socklen_t n = sizeof(s);

	if (getsockname(fd, (void *)&s, &n))
		return -1;
	return ntohs(((struct sockaddr_in *)&s)->sin_port);
}

static long send_all(int fd, long n)
{
	long left = n;

	while (left > 0) {
		long w = send(fd, data, left < (long)sizeof(data) ? left : (long)sizeof(data), MSG_NOSIGNAL);
		if (w < 0)
			return -1;
		left -= w;
	}
	return n;
}

// recv_all reads n bytes or, with n < 0, until the end.
static long recv_all(int fd, long n)
{
	long got = 0;

	while (n < 0 || got < n) {
		long left = n < 0 ? (long)sizeof(data) : n - got;
		long r = recv(fd, data, left < (long)sizeof(data) ? left : (long)sizeof(data), 0);
		if (r < 0)
			return -1;
		if (!r)
			break;
		got += r;
	}
	return got;
}

// A child that shares the socket closes it last, under its own name.
static long fork_close(int fd, const char *name)
{
	int p[2], status;
	char c;
	pid_t child;

	if (pipe(p))
		return -1;
	child = fork();
	if (!child) {
		close(p[1]);
		prctl(PR_SET_NAME, name);
		if (read(p[0], &c, 1) != 0) // until the parent has closed its own
			_exit(1);
		close(fd);
		_exit(0);
	}
	close(p[0]);
	close(fd);
	close(p[1]);
	waitpid(child, &status, 0);
	return child;
}

static long send_fd(int fd)
{
	char c = 'x', control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	return sendmsg(3, &m, 0);
}

static long recv_fd(void)
{
	char c, control[CMSG_SPACE(sizeof(int))];
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	int fd;

	if (recvmsg(3, &m, 0) < 0)
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

// n short connections: size bytes there, an answer of as many, close.
static long dial_many(const char *addr, int port, long n, long size)
{
	struct sockaddr_storage s;
	socklen_t len = address(&s, addr, port);
	long refused = 0;

	for (long i = 0; i < n; i++) {
		int fd = socket(s.ss_family, SOCK_STREAM, 0);
		if (fd < 0)
			return -1;
		if (connect(fd, (void *)&s, len)) {
			if (errno != ECONNREFUSED)
				return -1;
			refused++;
		} else if (size && (send_all(fd, size) < 0 || recv_all(fd, size) != size)) {
			return -1;
		}
		close(fd);
	}
	return refused;
}

static long serve_many(int fd, long n, long size)
{
	for (long i = 0; i < n; i++) {
		int c = accept(fd, NULL, NULL);
		if (c < 0)
			return -1;
		if (recv_all(c, size) != size || send_all(c, size) < 0 || recv_all(c, -1) < 0)
			return -1;
		close(c);
	}
	return n;
}

// n connections that stay open, in registers beyond.
static long hold_many(const char *addr, int port, long n)
{
	struct sockaddr_storage s;
	socklen_t len = address(&s, addr, port);

	for (long i = 0; i < n; i++) {
		int fd = socket(s.ss_family, SOCK_STREAM, 0);
		if (fd < 0 || connect(fd, (void *)&s, len))
			return -1;
	}
	return n;
}

static long accept_many(int fd, long n)
{
	for (long i = 0; i < n; i++)
		if (accept(fd, NULL, NULL) < 0)
			return -1;
	return n;
}

static long dial(int fd, const char *addr, int port)
{
	struct sockaddr_storage s;
	socklen_t len = address(&s, addr, port);

	if (connect(fd, (void *)&s, len))
		return -1;
	return port_of(fd);
}

static long fast_open(int fd, const char *addr, int port, long n)
{
	struct sockaddr_storage s;
	socklen_t len = address(&s, addr, port);

	if (sendto(fd, data, n, MSG_FASTOPEN | MSG_NOSIGNAL, (void *)&s, len) < 0)
		return -1;
	return port_of(fd);
}

static long perform(const char *verb, int r, const char *a, long b, long c, long d)
{
	struct sockaddr_storage s;
	int fd = reg[r & 63], fd2 = reg[atoi(a) & 63], one = 1;
	socklen_t len;

	if (!strcmp(verb, "socket")) { // R family type protocol
		fd = socket(atoi(a), b, c);
		reg[r & 63] = fd;
		return fd;
	}
	if (!strcmp(verb, "listen")) { // R address port backlog
		len = address(&s, a, b);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, (void *)&s, len) || listen(fd, c))
			return -1;
		return port_of(fd);
	}
	if (!strcmp(verb, "bind")) {
		len = address(&s, a, b);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		return bind(fd, (void *)&s, len);
	}
	if (!strcmp(verb, "connect")) // R address port
		return dial(fd, a, b);
	if (!strcmp(verb, "accept")) { // R listener
		fd = accept(fd2, NULL, NULL);
		reg[r & 63] = fd;
		return fd;
	}
	if (!strcmp(verb, "send"))
		return send_all(fd, atol(a));
	if (!strcmp(verb, "recv"))
		return recv_all(fd, atol(a));
	if (!strcmp(verb, "arrived")) { // wait for a byte, or the end, and leave it there
		struct pollfd p = {fd, POLLIN, 0};
		return poll(&p, 1, 10000) == 1 ? 0 : -1;
	}
	if (!strcmp(verb, "shutdown"))
		return shutdown(fd, atoi(a));
	if (!strcmp(verb, "close"))
		return close(fd);
	if (!strcmp(verb, "close_range"))
		return close_range(fd, fd, 0);
	if (!strcmp(verb, "dup2")) // R over
		return dup2(fd, fd2);
	if (!strcmp(verb, "exec")) { // another program, which does not get R
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		return execlp("sleep", "sleep", "100", NULL);
	}
	if (!strcmp(verb, "linger")) {
		struct linger l = {1, atoi(a)};
		return setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	}
	if (!strcmp(verb, "option")) { // R level name value
		int value = c;
		return setsockopt(fd, atoi(a), b, &value, sizeof(value));
	}
	if (!strcmp(verb, "nonblock"))
		return fcntl(fd, F_SETFL, O_NONBLOCK);
	if (!strcmp(verb, "disconnect")) {
		struct sockaddr none = {.sa_family = AF_UNSPEC};
		return connect(fd, &none, sizeof(none));
	}
	if (!strcmp(verb, "pause")) // ms
		return usleep(r * 1000);
	if (!strcmp(verb, "alarm")) { // a signal soon
		alarm(1);
		return 0;
	}
	if (!strcmp(verb, "fast_open")) // R address port bytes
		return fast_open(fd, a, b, c);
	if (!strcmp(verb, "fork_close")) // R name
		return fork_close(fd, a);
	if (!strcmp(verb, "send_fd"))
		return send_fd(fd);
	if (!strcmp(verb, "recv_fd")) {
		reg[r & 63] = recv_fd();
		return reg[r & 63];
	}
	if (!strcmp(verb, "dial_many")) // - address port n size
		return dial_many(a, b, c, d);
	if (!strcmp(verb, "serve_many")) // L n size
		return serve_many(fd, atol(a), b);
	if (!strcmp(verb, "hold_many"))
		return hold_many(a, b, c);
	if (!strcmp(verb, "accept_many"))
		return accept_many(fd, atol(a));
	fprintf(stderr, "actor: unknown command %s\n", verb);
	exit(2);
}

static void nothing(int sig) { (void)sig; }

int main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = nothing}; // without SA_RESTART
	struct rlimit files;
	char line[256], verb[32], a[64];

	if (argc < 2)
		return 2;
	prctl(PR_SET_NAME, argv[1]);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGALRM, &act, NULL);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (argc > 2 && unshare(CLONE_NEWNET)) {
		perror("actor: unshare");
		return 2;
	}
	answer(getpid());
	while (fgets(line, sizeof(line), stdin)) {
		int r = 0;
		long b = 0, c = 0, d = 0;

		strcpy(a, "0");
		if (sscanf(line, "%31s %d %63s %ld %ld %ld", verb, &r, a, &b, &c, &d) < 1)
			continue;
		answer(perform(verb, r, a, b, c, d));
	}
	return 0;
}
