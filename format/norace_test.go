//go:build !race

package format

const stride = 1
