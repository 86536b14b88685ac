//go:build ignore

// Command gocalls calls a function with known arguments.
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

func main() {
	x := add(1, 2, "three") + add(4, -5, "six")
	runtime.KeepAlive(x)
}
