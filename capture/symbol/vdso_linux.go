package symbol

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// VDSO returns a copy of this process's vdso, which is that of all programs of its
// kernel that have its word size and ABI. The file is open as long as the process
// runs; callers leave it open.
func VDSO() (*os.File, error) { return vdso() }

var vdso = sync.OnceValues(copyVDSO)

// maxVDSO bounds the copy; vdsos have 4 to 12 KiB.
const maxVDSO = 1 << 20

func copyVDSO() (*os.File, error) {
	image, err := vdsoImage()
	if err != nil {
		return nil, fmt.Errorf("read the vdso: %w", err)
	}
	fd, err := unix.MemfdCreate("vdso", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("vdso", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("copy the vdso: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), VDSOName)
	if _, err := f.WriteAt(image, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("copy the vdso: %w", err)
	}
	return f, nil
}

// vdsoImage reads it through the kernel: where a process may not open its own
// /proc/self/mem, as one with capabilities of its file, this works.
func vdsoImage() ([]byte, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	maps, err := ParseMaps(f)
	if err != nil {
		return nil, err
	}
	for _, m := range maps {
		size := m.End - m.Start
		if m.Path != VDSOName || m.Inode != 0 || size == 0 || size > maxVDSO {
			continue
		}
		image := make([]byte, size)
		local := []unix.Iovec{{Base: &image[0]}}
		local[0].SetLen(len(image))
		remote := []unix.RemoteIovec{{Base: uintptr(m.Start), Len: len(image)}}
		n, err := unix.ProcessVMReadv(os.Getpid(), local, remote, 0)
		if err != nil {
			return nil, fmt.Errorf("process_vm_readv: %w", err)
		}
		if n != len(image) {
			return nil, fmt.Errorf("process_vm_readv gave %d of %d bytes", n, len(image))
		}
		return image, nil
	}
	return nil, errors.New("this process has none")
}
