// A program that allocates and connects without end and writes down, in a file
// that it shares with the test, how far it has come: so the test knows what had
// happened at any moment, also of one at which everything else was killed.
//
//	busy FILE
//
// Its main thread makes a mark a millisecond: PAIRS times malloc(16) and free,
// a malloc(24) that leaks, and a block of MARK + n bytes, n counting the marks.
// Another thread opens and aborts a TCP connection every few milliseconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAIRS 50
#define MARK 4096
#define MOST 60000

struct progress {
	uint64_t pid, marks, conns; // counts, written last
	uint64_t mark_ns[MOST];     // when the mark was made, CLOCK_MONOTONIC
	struct {
		uint64_t opened_ns, closed_ns, port; // of the client
	} conn[MOST];
};

static struct progress *told;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void rest(long ms)
{
	struct timespec t = {.tv_nsec = ms * 1000000};

	nanosleep(&t, NULL);
}

static void *connections(void *unused)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct linger abort = {.l_onoff = 1}; // leaves no TIME_WAIT behind
	socklen_t n = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (void *)&a, n) || listen(listener, 8) || getsockname(listener, (void *)&a, &n))
		_exit(3);
	for (uint64_t i = 0; i < MOST; i++) {
		struct sockaddr_in own;
		int c = socket(AF_INET, SOCK_STREAM, 0);

		told->conn[i].opened_ns = now();
		if (connect(c, (void *)&a, sizeof(a)))
			_exit(4);
		n = sizeof(own);
		getsockname(c, (void *)&own, &n);
		int s = accept(listener, NULL, NULL);
		setsockopt(c, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
		close(c);
		close(s);
		told->conn[i].port = ntohs(own.sin_port);
		told->conn[i].closed_ns = now();
		__atomic_store_n(&told->conns, i + 1, __ATOMIC_RELEASE);
		rest(5);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
	pthread_t t;

	if (fd < 0 || ftruncate(fd, sizeof(*told)))
		return 2;
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (told == MAP_FAILED)
		return 2;
	alarm(120); // whatever becomes of the test
	told->pid = getpid();
	pthread_create(&t, NULL, connections, NULL);
	for (uint64_t i = 0; i < MOST; i++) {
		for (int k = 0; k < PAIRS; k++) {
			void *volatile p = malloc(16);
			free(p);
		}
		void *volatile leak = malloc(24);
		void *volatile mark = malloc(MARK + i);
		told->mark_ns[i] = now();
		__atomic_store_n(&told->marks, i + 1, __ATOMIC_RELEASE);
		free(mark);
		(void)leak;
		rest(1);
	}
	return 0;
}
