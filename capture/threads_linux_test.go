package capture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
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

// crowd is a program of many threads, all there at once. musl's calloc and realloc
// call malloc and free.
const crowd = `
#include <pthread.h>
#include <stdlib.h>

static pthread_barrier_t all;

static void *busy(void *arg)
{
	pthread_barrier_wait(&all);
	for (int i = 0; i < ROUNDS; i++) {
		void *p = malloc(1001), *q = calloc(1, 1002);

		p = realloc(p, 100003);
		free(p);
		free(q);
	}
	pthread_barrier_wait(&all);
	return NULL;
}

int main(void)
{
	pthread_t t[THREADS];

	pthread_barrier_init(&all, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, busy, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return 0;
}
`

// TestThreadsCrowded: when there is no room to remember more threads, calls are still
// told from those that they make within: none is recorded or counted as lost twice.
func TestThreadsCrowded(t *testing.T) {
	kerneltest.Require(t)
	const threads, rounds = 30, 40
	exe := kerneltest.Build(t, writeSource(t, crowd), fmt.Sprintf("-DTHREADS=%d", threads), fmt.Sprintf("-DROUNDS=%d", rounds),
		"-fno-builtin", "-static", "-specs=/usr/lib/x86_64-linux-musl/musl-gcc.specs")
	for _, stacks := range []string{StacksAuto, StacksFP} {
		path := filepath.Join(t.TempDir(), "crowd.tcap")
		r := &recorder{alive: map[uint32]bool{}, opts: Options{Output: path, Command: []string{exe}, Stacks: stacks}, rooms: map[string]uint32{"threads": 2}}
		if err := r.begin(); err != nil {
			r.abandon()
			t.Fatal(err)
		}
		runErr := r.run(context.Background())
		room := 0
		var tid uint32
		var value []byte
		for it := r.objs.Crowd.Iterate(); it.Next(&tid, &value); {
			room++
		}
		sum, err := r.finish()
		if err != nil || runErr != nil {
			t.Fatal(runErr, err)
		}
		if room != 0 {
			t.Errorf("%s: %d calls that have ended are remembered", stacks, room)
		}
		got := count(t, path)
		for what, want := range map[string]int{"alloc 1001": 1, "alloc 1002": 1, "realloc 100003": 1, "free 0": 2} {
			if n := threads * rounds; got[what] != n*want {
				t.Errorf("%s: %s: %d events, the program did that %d times", stacks, what, got[what], n*want)
			}
		}
		if sum.Lost != 0 {
			t.Errorf("%s: %d events are counted as lost", stacks, sum.Lost)
		}
	}
}

// count is how many heap events of each kind and size a capture has.
func count(t *testing.T, path string) map[string]int {
	t.Helper()
	f, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := map[string]int{}
	for e, err := range f.Events(format.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case format.KindAlloc:
			n[fmt.Sprint("alloc ", e.V[format.AllocSize])]++
		case format.KindRealloc:
			n[fmt.Sprint("realloc ", e.V[format.ReallocSize])]++
		case format.KindFree:
			n["free 0"]++
		}
	}
	return n
}

func writeSource(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program.c")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
