package capture

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A ring is the reading end of a BPF ring buffer. Records are read where the
// kernel put them, and given back in batches: a copy of each under a lock, as
// cilium/ebpf's reader makes it, takes some 27 ns,
// and a position written for each record takes the cache line from the targets,
// which look at it before they add one.
//
// The layout is that of kernel/bpf/ringbuf.c: a page with the reader's position,
// one with the writers', and the data, mapped twice in a row so that no record is
// ever in two pieces. A record is preceded by 8 bytes, whose first 4 are its length
// and two flags, and begins at a multiple of 8.
type ring struct {
	consumer, producer *uint64 // positions in bytes, which only grow
	data               []byte  // twice the ring
	mask               uint64

	at, end, given uint64 // read up to, to be read up to, given back up to

	reader, writers []byte // the mappings

	epoll   int      // which is readable when the reader is asked for, by a program or by wake
	watched *os.File // the same, for Go's poller
	asked   syscall.RawConn
	bell    *os.File // an eventfd
}

const (
	recordHead    = 8
	recordBusy    = 1 << 31 // being written
	recordDiscard = 1 << 30
	recordLen     = recordDiscard - 1

	// giveBack is how many bytes are read before the kernel may write there
	// again: many records, and a small part of the smallest useful ring.
	giveBack = 16 << 10
)

var errRing = fmt.Errorf("%w: a record goes beyond the end of what was written", errKernel)

func openRing(m *ebpf.Map) (*ring, error) {
	size, page := int(m.MaxEntries()), os.Getpagesize()
	r := &ring{mask: uint64(size - 1), epoll: -1}
	var err error
	if r.reader, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map the reader's position: %w", err)
	}
	if r.writers, err = unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("map the data: %w", err), r.Close())
	}
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		err = unix.SetNonblock(r.epoll, true) // or Go would not poll it
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create an epoll: %w", err), r.Close())
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create an eventfd: %w", err), r.Close())
	}
	r.bell = os.NewFile(uintptr(bell), "bell")
	// By edge: by level, the kernel would not sleep while there are records,
	// and at a million a second there is always one.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}
	for _, fd := range []int{m.FD(), bell} {
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return nil, errors.Join(fmt.Errorf("watch the ring: %w", err), r.Close())
		}
	}
	// Go waits for the epoll as it waits for a socket. A thread that slept in
	// epoll_wait would be taken for one that is stuck there, and be looked after.
	r.watched = os.NewFile(uintptr(r.epoll), "ring")
	if err := r.watched.SetReadDeadline(time.Time{}); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the ring: %w", err), r.Close())
	}
	if r.asked, err = r.watched.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the ring: %w", err), r.Close())
	}
	r.consumer = (*uint64)(unsafe.Pointer(&r.reader[0]))
	r.producer = (*uint64)(unsafe.Pointer(&r.writers[0]))
	r.data = r.writers[page:]
	r.at = atomic.LoadUint64(r.consumer)
	r.end, r.given = r.at, r.at
	return r, nil
}

// wake ends a wait, or the next one. It may be called from any goroutine, and
// after Close.
func (r *ring) wake() {
	if r.bell != nil {
		r.bell.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}) // its counter never gets full
	}
}

// wait sleeps for that long, or until a program or wake asks for the reader.
func (r *ring) wait(d time.Duration) error {
	if err := r.watched.SetReadDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("%w: wait for records: %w", errKernel, err)
	}
	var failed error
	err := r.asked.Read(func(fd uintptr) bool {
		var ev [1]unix.EpollEvent
		n, err := unix.EpollWait(int(fd), ev[:], 0)
		if err != nil && err != unix.EINTR {
			failed = err
		}
		return n > 0 || failed != nil
	})
	if err = errors.Join(failed, err); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: wait for records: %w", errKernel, err)
	}
	return nil
}

// next returns the next record, which lasts until the next call. It returns nil
// when there is none, or one that is not complete: its writer may have been
// interrupted, and to wait for it would take the CPU that it needs.
func (r *ring) next() ([]byte, error) {
	for {
		if r.at-r.given >= giveBack {
			r.release()
		}
		if r.at == r.end {
			if r.end = atomic.LoadUint64(r.producer); r.at == r.end {
				r.release()
				return nil, nil
			}
		}
		from := r.at & r.mask
		// The kernel writes the length last, with a barrier before it.
		head := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[from])))
		if head&recordBusy != 0 {
			r.release()
			return nil, nil
		}
		n := uint64(head & recordLen)
		whole := recordHead + (n+7)&^7
		if whole > r.end-r.at {
			return nil, errRing
		}
		r.at += whole
		if head&recordDiscard == 0 {
			return r.data[from+recordHead : from+recordHead+n : from+recordHead+n], nil
		}
	}
}

// positions are up to where the ring was read, and written, in bytes since its beginning.
func (r *ring) positions() (read, written uint64) { return r.at, atomic.LoadUint64(r.producer) }

// pending reports whether there are records that were not read.
func (r *ring) pending() bool { return r.at != atomic.LoadUint64(r.producer) }

// release gives what was read back to the kernel.
func (r *ring) release() {
	if r.at != r.given {
		atomic.StoreUint64(r.consumer, r.at)
		r.given = r.at
	}
}

// Close unmaps the ring. It may be called again.
func (r *ring) Close() error {
	var errs []error
	for _, m := range []*[]byte{&r.reader, &r.writers} {
		if *m != nil {
			errs = append(errs, unix.Munmap(*m))
			*m = nil
		}
	}
	if r.bell != nil {
		if err := r.bell.Close(); !errors.Is(err, os.ErrClosed) { // it stays, for wake
			errs = append(errs, err)
		}
	}
	switch {
	case r.watched != nil:
		errs = append(errs, r.watched.Close())
		r.watched = nil
	case r.epoll >= 0:
		errs = append(errs, unix.Close(r.epoll))
	}
	r.epoll = -1
	return errors.Join(errs...)
}
