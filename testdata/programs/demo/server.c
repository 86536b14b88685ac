// A small TCP server that leaks on purpose, and says how much.
//
//   server CLIENT
//
// It listens on a free port of the loopback, starts CLIENT with the port, and
// serves the connections that the client is known to make (demo.h). For each
// it parses the request into memory that it frees, and leaks from two places:
// remember_client on every connection, cache_reply on every CACHE_EVERY-th.
// The connections whose number is even it closes itself; of the others, the
// client closes some and aborts some.

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "demo.h"

#define CLIENT_SIZE 96
#define CACHE_SIZE 4096
#define CACHE_EVERY 4

extern char **environ;

// Keeps the compiler from dropping an allocation that nobody reads.
static void *volatile last;

static void die(const char *step)
{
	dprintf(STDERR_FILENO, "server: %s: %s\n", step, strerror(errno));
	exit(1);
}

// Forgets the record of the previous client: a leak of CLIENT_SIZE bytes.
static __attribute__((noinline)) void remember_client(int number)
{
	char *record = malloc(CLIENT_SIZE);

	if (!record)
		die("remember a client");
	snprintf(record, CLIENT_SIZE, "client %d", number);
	last = record;
}

// Caches a reply that nobody will look up: a leak of CACHE_SIZE bytes.
static __attribute__((noinline)) void cache_reply(const char *reply)
{
	char *copy = calloc(1, CACHE_SIZE);

	if (!copy)
		die("cache a reply");
	memcpy(copy, reply, REPLY_SIZE);
	last = copy;
}

// Returns the number that the request asks for. What it allocates, it frees.
static __attribute__((noinline)) int parse_request(const char *request)
{
	char *copy = strdup(request);
	int number;

	if (!copy)
		die("copy the request");
	number = atoi(copy + strlen("GET "));
	free(copy);
	return number;
}

static void serve(int fd)
{
	char request[REQUEST_SIZE + 1] = "", rest[16];
	char *reply;
	int number;

	if (recv(fd, request, REQUEST_SIZE, MSG_WAITALL) != REQUEST_SIZE)
		die("receive a request");
	number = parse_request(request);
	remember_client(number);

	reply = malloc(REPLY_SIZE);
	if (!reply)
		die("make a reply");
	memset(reply, 'a' + number % 26, REPLY_SIZE);
	if (send(fd, reply, REPLY_SIZE, MSG_NOSIGNAL) != REPLY_SIZE)
		die("send a reply");
	if (number % CACHE_EVERY == 0)
		cache_reply(reply);
	free(reply);

	// The client closes or resets the connection: wait for either.
	if (!server_closes(number))
		while (recv(fd, rest, sizeof rest, 0) > 0)
			;
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof addr;
	int listener, status, cached = 0;
	char port[8];
	pid_t client;

	if (argc != 2) {
		dprintf(STDERR_FILENO, "usage: server CLIENT\n");
		return 2;
	}
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof addr) ||
	    listen(listener, 16) || getsockname(listener, (struct sockaddr *)&addr, &len))
		die("listen");
	snprintf(port, sizeof port, "%d", ntohs(addr.sin_port));
	errno = posix_spawn(&client, argv[1], NULL, NULL, (char *[]){ argv[1], port, NULL }, environ);
	if (errno)
		die(argv[1]);

	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			die("accept");
		serve(fd);
		cached += i % CACHE_EVERY == 0;
	}
	if (waitpid(client, &status, 0) < 0)
		die("wait for the client");
	// dprintf allocates nothing, so this adds no leak of its own.
	dprintf(STDERR_FILENO, "server: leaked %d bytes in %d blocks in remember_client, %d bytes in %d blocks in cache_reply\n",
		CONNECTIONS * CLIENT_SIZE, CONNECTIONS, cached * CACHE_SIZE, cached);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
