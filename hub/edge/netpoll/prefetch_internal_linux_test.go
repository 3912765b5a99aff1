package netpoll

import (
	"testing"
	"unsafe"

	"github.com/connhub/connhub/internal/testkit"
)

// A read of the socket would wait for the lines that the prefetch asks for.
func TestPrefetchOfAParkedSocketReadsNothingOfIt(t *testing.T) {
	testkit.CheckReadsNothing(t, func(p unsafe.Pointer) { (*parked)(p).prefetchState() })
}
