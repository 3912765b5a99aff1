//go:build amd64 || arm64

// Package prefetch has the processor fetch memory ahead of its use. It imports nothing of ours.
package prefetch

import "unsafe"

// Line has the processor bring the cache line at p near, without a wait for it. It is a hint: it
// reads nothing, changes nothing, and takes any address. It is for loops over thousands of things
// that the loop would wait for otherwise, each in turn.
//
// p must be the pointer itself, or unsafe.Add to it. For the address of a field, &x.f, Go checks x:
// it reads the memory at x, and waits for the line that Line was to fetch.
//
//go:noescape
func Line(p unsafe.Pointer)

// LineBehind is Line of the address that lies at p. The address may be changing: then an old line
// comes near.
//
//go:noescape
func LineBehind(p unsafe.Pointer)
