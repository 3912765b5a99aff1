//go:build amd64 || arm64

package hub

import "unsafe"

// Prefetch has the processor bring the cache line at p near, without waiting for it. It is a hint: it reads nothing, changes nothing,
// and any address will do. It is for loops over thousands of things, of which each would have to be waited for otherwise.
//
//go:noescape
func Prefetch(p unsafe.Pointer)

// prefetchTo is Prefetch of what the pointer at p points to. The pointer may be changing: then an old line comes near.
//
//go:noescape
func prefetchTo(p unsafe.Pointer)
