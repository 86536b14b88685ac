// The client of the demo's server: first one connect to a port where nobody
// listens, then CONNECTIONS requests, one after the other (demo.h).
//
//   client PORT

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "demo.h"

static void die(const char *step)
{
	dprintf(STDERR_FILENO, "client: %s: %s\n", step, strerror(errno));
	exit(1);
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int stream(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

// Connects to a port that is bound, hence nobody else's, but not listening.
static void connect_to_nobody(void)
{
	struct sockaddr_in addr = loopback(0);
	socklen_t len = sizeof addr;
	int bound = stream(), fd = stream();

	if (bind(bound, (struct sockaddr *)&addr, len) || getsockname(bound, (struct sockaddr *)&addr, &len))
		die("bind");
	if (connect(fd, (struct sockaddr *)&addr, len) == 0 || errno != ECONNREFUSED)
		die("connect to nobody");
	close(fd);
	close(bound);
}

static void ask(int port, int number)
{
	struct sockaddr_in addr = loopback(port);
	char request[REQUEST_SIZE] = "", reply[REPLY_SIZE];
	struct linger abort = { .l_onoff = 1, .l_linger = 0 };
	int fd = stream();

	if (connect(fd, (struct sockaddr *)&addr, sizeof addr))
		die("connect");
	snprintf(request, sizeof request, "GET %d", number);
	if (send(fd, request, sizeof request, MSG_NOSIGNAL) != sizeof request)
		die("send");
	if (recv(fd, reply, sizeof reply, MSG_WAITALL) != sizeof reply)
		die("receive");
	if (server_closes(number) && recv(fd, reply, sizeof reply, 0) != 0)
		die("wait for the server's end");
	if (client_resets(number) && setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort))
		die("set linger");
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		dprintf(STDERR_FILENO, "usage: client PORT\n");
		return 2;
	}
	connect_to_nobody();
	for (int i = 0; i < CONNECTIONS; i++)
		ask(atoi(argv[1]), i);
	return 0;
}
