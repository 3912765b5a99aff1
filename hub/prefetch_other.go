//go:build !amd64 && !arm64

package hub

import "unsafe"

// Prefetch does nothing on this processor.
func Prefetch(unsafe.Pointer) {}

func prefetchTo(unsafe.Pointer) {}
