// build: -O2 -pthread
// Times TCP connections on loopback: connections.c COUNT
// A server thread answers 100 bytes with 1000 and closes; the client connects,
// asks, reads to the end and closes. It prints the connections per second.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long count;
static int listener;

static void *serve(void *arg)
{
	char in[100], out[1000];

	memset(out, 'x', sizeof(out));
	for (long i = 0; i < count; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 || recv(fd, in, sizeof(in), MSG_WAITALL) != sizeof(in) || send(fd, out, sizeof(out), 0) != sizeof(out))
			abort();
		close(fd);
	}
	return arg;
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	struct timespec a, b;
	char buf[1000] = {0};
	pthread_t thread;

	count = argc > 1 ? atol(argv[1]) : 10000;
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (void *)&addr, sizeof(addr)) || listen(listener, 1024) || getsockname(listener, (void *)&addr, &len))
		return 1;
	pthread_create(&thread, NULL, serve, NULL);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < count; i++) {
		// Many addresses of the loopback net, or the ports in TIME_WAIT run out.
		struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + i / 20000)};
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (bind(fd, (void *)&from, sizeof(from)) || connect(fd, (void *)&addr, sizeof(addr)) || send(fd, buf, 100, 0) != 100)
			return 1;
		while (recv(fd, buf, sizeof(buf), 0) > 0)
			;
		close(fd);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("connections_per_second %.0f\n", count / ((b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9));
	return 0;
}
