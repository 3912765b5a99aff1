package frame_test

import (
	"fmt"
	"testing"

	"github.com/connhub/connhub/hub/edge/frame"
)

// BenchmarkAppend writes a frame around a payload, into memory that is there.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			payload, dst := make([]byte, size), make([]byte, 0, frame.MaxHeader+size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				frame.Append(dst, frame.Text, payload)
			}
		})
	}
}

// BenchmarkAppendHeader is the cost of a message for each connection whose protocol numbers it.
func BenchmarkAppendHeader(b *testing.B) {
	dst := make([]byte, 0, frame.MaxHeader)
	b.ReportAllocs()
	for b.Loop() {
		frame.AppendHeader(dst, frame.Text, false, 24)
	}
}
