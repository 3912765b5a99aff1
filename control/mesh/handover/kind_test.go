package handover

import (
	"strings"
	"testing"

	"github.com/connhub/connhub/control/mesh/move"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// TestKindsOfMovesHaveTheSameNumbersInTheProto: the shell converts them without a table. Kinds on
// lanes have fields of forward.proto instead, and their numbers are reserved.
func TestKindsOfMovesHaveTheSameNumbersInTheProto(t *testing.T) {
	d := peerv1.MoveKind(0).Descriptor()
	for k := move.Offer; k <= move.Elsewhere; k++ {
		number := peerv1.MoveKind(k)
		if k.IsOfLane() {
			if !d.ReservedRanges().Has(number.Number()) {
				t.Errorf("%s is not reserved", k)
			}
			continue
		}
		if want := "MOVE_KIND_" + strings.ToUpper(k.String()); number.String() != want {
			t.Errorf("%s is %s", want, number)
		}
	}
	if n := d.Values().Len(); n != int(move.Elsewhere)-5+1 { // 5 of lanes, and UNSPECIFIED
		t.Errorf("the proto has %d kinds", n)
	}
}
