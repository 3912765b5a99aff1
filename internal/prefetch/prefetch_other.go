//go:build !amd64 && !arm64

// Package prefetch does nothing on this processor.
package prefetch

import "unsafe"

// Line does nothing.
func Line(unsafe.Pointer) {}

// LineBehind does nothing.
func LineBehind(unsafe.Pointer) {}
