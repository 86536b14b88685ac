// Frames of Go: recursion, closures, deferred calls, a goroutine of its own.
package main

import (
	"fmt"
	"sort"
)

var sink int

//go:noinline
func leaf(n int) int {
	sink += n
	return sink
}

//go:noinline
func recurse(n int, f func(int) int) int {
	var room [64]int
	room[n%64] = n
	if n == 0 {
		return f(room[0]) + 1
	}
	return recurse(n-1, f) + room[n%64]
}

func main() {
	done := make(chan int)
	go func() {
		v := []int{3, 1, 2}
		sort.Slice(v, func(i, j int) bool {
			defer func() { sink += recurse(50, leaf) }()
			return v[i] < v[j]
		})
		done <- v[0]
	}()
	fmt.Println(<-done)
}
