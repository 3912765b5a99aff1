package hub

import (
	"testing"
	"unsafe"

	"github.com/connhub/connhub/internal/testkit"
)

// A read of the connection would wait for the lines that the prefetch asks for.
func TestPrefetchOfAConnectionReadsNothingOfIt(t *testing.T) {
	testkit.CheckReadsNothing(t, func(p unsafe.Pointer) { (*Connection)(p).Prefetch(0) })
}
