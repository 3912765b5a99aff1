package edge

import (
	"testing"
	"unsafe"

	"github.com/connhub/connhub/internal/testkit"
)

// A read of the link would wait for the lines that the prefetch asks for.
func TestPrefetchOfALinkReadsNothingOfIt(t *testing.T) {
	testkit.CheckReadsNothing(t, func(p unsafe.Pointer) { (*link)(p).Prefetch(0) })
}
