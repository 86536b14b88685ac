//go:build ignore

// Command gocalls calls functions and methods with known arguments.
package main

import "runtime"

//go:noinline
func add(a, b int, s string) int {
	if len(s) > 100 {
		return deep(1000) // its stack grows, and moves
	}
	return a + b
}

//go:noinline
func deep(n int) int {
	var room [256]byte
	if n == 0 {
		return int(room[0])
	}
	return deep(n-1) + int(room[n%256])
}

type worker struct{ sum int }

//go:noinline
func (w *worker) Work(n int) int {
	w.sum += n
	return w.sum
}

//go:noinline
func (w worker) Look(n int) int { return w.sum + n }

type box[T any] struct{ in []T }

//go:noinline
func (b *box[T]) Put(v T, n int) { b.in = append(b.in, v) }

//go:noinline
func last[T any](list []T, n int) T { return list[len(list)-1] }

func main() {
	w := &worker{}
	w.Work(7)
	w.Work(8)
	w.Look(9)
	numbers, words := &box[int]{}, &box[string]{}
	numbers.Put(1, 10)
	words.Put("one", 11)
	last(numbers.in, 12)
	last(words.in, 13)
	x := add(1, 2, "three") + add(4, -5, "six")
	runtime.KeepAlive(x)
}
