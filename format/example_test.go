package format_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/tcap-dev/tcap/format"
)

func ExampleNewWriter() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "run.tcap"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	w, err := format.NewWriter(f, format.Header{Tool: "example"}, format.WriterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	task := w.Task(format.Task{Pid: 100, Tid: 100, Space: 100, Comm: "leaky"})
	main := w.Stack(0, w.Frame(format.Frame{Function: "main"}))
	leak := w.Stack(main, w.Frame(format.Frame{Function: "leak_here"}))

	e := format.Event{Kind: format.KindAlloc, Task: task, Time: 1000}
	e.V[format.AllocAddr] = 0x55550000
	e.V[format.AllocSize] = 64
	e.V[format.AllocStack] = uint64(leak)
	if err := w.Append(&e); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(format.Trailer{Reason: "exit"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(w.Stats().Events, "event")
	// Output: 1 event
}

func ExampleOpen() {
	r, err := format.Open("testdata/v1.tcap")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	var blocks, smallest uint64
	// Every event has its kind's fields in V, at the indexes that the constants name.
	for e, err := range r.Events(format.Filter{Kinds: format.NewKindSet(format.KindAlloc)}) {
		if err != nil {
			log.Print(err) // a damaged block; the iteration goes on
			continue
		}
		if size := e.V[format.AllocSize]; blocks == 0 || size < smallest {
			smallest = size
		}
		blocks++
	}
	_, clean := r.Trailer()
	fmt.Printf("host %s, clean end: %v, %d heap blocks allocated, of %d bytes or more\n", r.Header().Host, clean, blocks, smallest)
	// Output: host golden, clean end: true, 43 heap blocks allocated, of 1 bytes or more
}

func ExampleFormat() {
	r, err := format.Open("testdata/v1.tcap")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for e, err := range r.Events(format.Filter{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(format.Format(nil, r, e)))
		break
	}
	// Output: 5.000001304 102/104@2 task-4 heap.alloc addr=0x55000000fe40 size=1780242400448 stack=f0;f0;f6;f5 fn=calloc
}

func ExampleReader_Batches() {
	r, err := format.Open("testdata/v1.tcap")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	// work runs on all CPUs; the results come in the order of the file.
	crossing := 0
	for res, err := range r.Batches(format.Filter{}, func(b *format.Batch) any {
		n := 0
		for i := range b.Len() {
			if b.Kind[i] == format.KindAlloc && !b.Consumed(i) {
				n++ // outlives its block
			}
		}
		return n
	}) {
		if err == nil {
			crossing += res.Value.(int)
		}
	}
	fmt.Println(crossing, "heap blocks outlive the file's block that they were born in")
	// Output: 36 heap blocks outlive the file's block that they were born in
}
