package framing

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkDeflate measures a compression, which all receivers of the message share. "ratio" is the
// compressed size by the plain size.
func BenchmarkDeflate(b *testing.B) {
	record := `{"id":%d,"symbol":"ACME","bid":101.%d,"ask":102.%d,"venue":"north-%d"},`
	for _, size := range []int{minCompressed, 1 << 10, 16 << 10} {
		var json strings.Builder
		for i := 0; json.Len() < size; i++ {
			_, _ = fmt.Fprintf(&json, record, i*7919, i*31%100, i*17%100, i%5)
		}
		payload := []byte(json.String()[:size])
		b.Run(fmt.Sprintf("%d bytes of JSON", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				out = appendDeflated(out[:0], payload)
			}
			b.ReportMetric(float64(len(out))/float64(size), "ratio")
		})
	}
}

// BenchmarkNumberIntoDeflated measures the prefix that each connection adds to the shared bytes of
// a numbered protocol.
func BenchmarkNumberIntoDeflated(b *testing.B) {
	d := Deflate(prefixed{before: `{"sequenceId":`, after: ","}, nil).(*numberedDeflated)
	shared := make([]byte, 500)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = d.AppendPrefix(out[:0], 12345, shared)
	}
}
