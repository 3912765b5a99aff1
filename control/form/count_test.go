package form

import (
	"math"
	"testing"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

func TestCountsAreCutAtTheEndOfTheirType(t *testing.T) {
	for n, want := range map[int]int32{
		0: 0, 7: 7, math.MaxInt32: math.MaxInt32, math.MaxInt32 + 1: math.MaxInt32,
	} {
		if have := ClampCount(n); have != want {
			t.Errorf("%d: %d", n, have)
		}
	}
}

func TestEveryStateOfAConnectionIsTranslated(t *testing.T) {
	if len(connectionStates) != len(controlv1.ConnectionState_name)-1 {
		t.Error("a value of ConnectionState is not translated")
	}
}
