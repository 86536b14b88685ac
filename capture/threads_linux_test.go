package capture

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// manyEnds is a program whose threads end in all the ways that they can: with
// their process, one by one, and by the exec of another.
const manyEnds = `
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t all;
static char *self;
static int execs;

static void use(size_t n)
{
	void *volatile p = malloc(n);

	free(p);
}

static void *busy(void *arg)
{
	use(32);
	pthread_barrier_wait(&all);
	if (arg && execs)
		execl(self, self, "end", (char *)NULL);
	if (arg)
		_exit(0);
	for (;;)
		use(64);
}

static void child(int how)
{
	pthread_t t;

	execs = how;
	pthread_barrier_init(&all, NULL, 9);
	for (int i = 0; i < 8; i++)
		pthread_create(&t, NULL, busy, i == 7 ? self : NULL);
	pthread_barrier_wait(&all);
	for (;;)
		use(128);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return 0;
	self = argv[0];
	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid = fork();

		if (!pid)
			child(i & 1);
		waitpid(pid, NULL, 0);
	}
	return 0;
}
`

// TestThreadsForgotten: what is remembered of a thread does not outlive it,
// however it ended, or a long recording would run out of room.
func TestThreadsForgotten(t *testing.T) {
	kerneltest.Require(t)
	exe := kerneltest.Build(t, writeSource(t, manyEnds), "-pthread", "-DROUNDS=20")
	r := &recorder{alive: map[uint32]bool{}, opts: Options{
		Output: filepath.Join(t.TempDir(), "threads.tcap"), Command: []string{exe},
	}}
	if err := r.begin(); err != nil {
		r.abandon()
		t.Fatal(err)
	}
	runErr := r.run(context.Background())
	left := 0
	var tid uint32
	var value []byte
	it := r.objs.Threads.Iterate()
	for it.Next(&tid, &value) {
		left++
	}
	if err := it.Err(); err != nil {
		t.Error(err)
	}
	if _, err := r.finish(); err != nil || runErr != nil {
		t.Fatal(runErr, err)
	}
	if left != 0 {
		t.Errorf("%d threads that have ended are remembered", left)
	}
}

func writeSource(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program.c")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
