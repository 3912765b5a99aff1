package control

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

func TestAServerWithoutADrainHasNoDrainHub(t *testing.T) {
	f := newFixture(t)
	f.serve(t)
	stream, err := f.hubs.DrainHub(t.Context(), &controlv1.DrainHubRequest{HubId: "some"})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v, want UNIMPLEMENTED", err)
	}
}
