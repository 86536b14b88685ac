package capture

import "os"

// TryLoad brings the programs, but for those of declared probes, into the kernel and
// takes them out again. The error is the one that a recording would end with.
func TryLoad() error {
	r := &recorder{opts: Options{RingSize: os.Getpagesize(), Stacks: StacksDwarf, Packs: PackNames(), KernelStacks: true}}
	err := r.load()
	if r.ring != nil {
		r.ring.Close()
	}
	r.objs.Close()
	return err
}
