package fleet

import (
	"testing"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

func TestPhasesOfADrainHaveTheirValuesInTheAPI(t *testing.T) {
	for phase, want := range map[DrainPhase]controlv1.DrainPhase{
		DrainDelay:   controlv1.DrainPhase_DRAIN_PHASE_DELAY,
		DrainClosing: controlv1.DrainPhase_DRAIN_PHASE_CLOSING,
		DrainDone:    controlv1.DrainPhase_DRAIN_PHASE_DRAINED,
	} {
		if got := newDrainResponse(DrainProgress{Phase: phase}).GetPhase(); got != want {
			t.Errorf("phase %d is %v, want %v", phase, got, want)
		}
	}
}
